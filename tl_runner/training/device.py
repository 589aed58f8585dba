"""Where and how the arithmetic runs: device, precision, memory layout, compilation."""

from __future__ import annotations

import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import torch
from torch.amp.grad_scaler import GradScaler

from tl_runner.cli import torchrun
from tl_runner.errors import ConfigError
from tl_runner.files import locked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

THREADS = torch.get_num_threads()
_taken: dict[int, IO] = {}  # this process's GPU and the open file whose lock says so
# flags of processors, of x86 and ARM, that compute in a precision
NATIVE = {"bf16": ("avx512_bf16", "amx_bf16", "bf16"), "fp16": ("avx512_fp16", "amx_fp16", "fphp")}
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Device:
    """The device options of a run, resolved.

    Attributes:
        torch: the device itself.
        precision: fp32, tf32, bf16 or fp16.
        channels_last: memory layout of images and convolutions.
        compile: compile the networks.
        cuda_graphs: replay them as CUDA graphs.
    """

    torch: torch.device
    precision: str
    channels_last: bool
    compile: bool
    cuda_graphs: bool

    def autocast(self) -> AbstractContextManager:
        """The context of every forward pass."""
        if self.precision not in AUTOCAST:
            return nullcontext()
        return torch.autocast(self.torch.type, AUTOCAST[self.precision])

    def scaler(self) -> GradScaler | None:
        """Loss scaling, which fp16 gradients need."""
        return GradScaler(self.torch.type) if self.precision == "fp16" else None

    def place(self, network: nn.Module) -> None:
        """Move a network here, in place; its compiled form keeps its parameters and their names."""
        layout = torch.channels_last if self.channels_last else torch.preserve_format
        network.to(self.torch).to(memory_format=layout)

    def lay_out(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in the memory layout of the networks."""
        return (
            images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        )

    def accelerate(self, network: nn.Module) -> None:
        """Compile a network where asked, in place."""
        if self.compile or self.cuda_graphs:
            network.compile(mode="reduce-overhead" if self.cuda_graphs else None)

    def begin_step(self) -> None:
        """Tell CUDA graphs that earlier outputs are no longer needed."""
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()

    def synchronize(self) -> None:
        """Wait for the device, before reading a clock."""
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)
        elif self.torch.type == "mps":
            torch.mps.synchronize()

    def peak_memory_mb(self) -> float:
        """The most memory held so far: the device's on a GPU, the process's on a CPU."""
        if self.torch.type == "cuda":
            return torch.cuda.max_memory_allocated(self.torch) / 2**20
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)

    def describe(self) -> str:
        """The processor's or the GPU's name, for the record."""
        if self.torch.type == "cuda":
            return torch.cuda.get_device_name(self.torch)
        import platform

        name = platform.processor() or platform.machine()
        return f"{name}, {torch.get_num_threads()} threads" if self.torch.type == "cpu" else name


def free_gpu(count: int) -> int:
    """A GPU that no other worker on this machine has taken, of ``count`` visible ones; this process
    keeps it.

    With more workers than GPUs the last ones share.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    for index in range(count):
        if index in _taken:
            return index
        name = visible[index] if index < len(visible) and visible[index] else str(index)
        try:
            file = open(Path(tempfile.gettempdir(), f"tl-run-gpu-{name}.lock"), "a")  # noqa: SIM115
        except OSError:  # another user's
            continue
        if locked(file.fileno()):
            _taken[index] = file
            return index
        file.close()
    return os.getpid() % count


def slower_than_fp32(device: Device, flags: str | None = None) -> str:
    """A warning where a processor does not know a precision and imitates it; or empty.

    Args:
        flags: of the processor; None: of this one, as Linux lists them. Without any nothing is
            said.
    """
    if device.torch.type != "cpu" or device.precision not in NATIVE:
        return ""
    if flags is None:
        try:
            flags = Path("/proc/cpuinfo").read_text()
        except OSError:
            return ""
    if not flags or {*NATIVE[device.precision]} & {*flags.split()}:
        return ""
    return (
        f"device.precision={device.precision}: this processor does not compute in it and imitates "
        "it, several times slower than device.precision=fp32."
    )


def resolve(options: Mapping[str, Any], worker: bool = False) -> Device:
    """The device of a config section.

    Under torchrun each process takes the GPU of its own number, and a ``worker``, one of several
    processes of a sweep, one that is free.

    Raises:
        ConfigError: the machine has no such device, or the device no such option.
    """
    name = options["name"]
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    device, several = torch.device(name), torchrun.world() > 1
    if several and device.type != "cpu" and name != "cuda":
        raise ConfigError(
            [
                f"device={name} is one device, and torchrun started {torchrun.world()} processes. "
                "Use device=cuda or cpu."
            ]
        )
    if device.type == "cuda":
        count, index = torch.cuda.device_count(), device.index
        if index is None:
            index = torchrun.local_rank() if several else free_gpu(count) if worker and count else 0
        if not torch.cuda.is_available() or index >= count:
            cure = (
                f"torchrun --nproc-per-node={count}"
                if several and count
                else "device=cpu"
                if several
                else "device=auto"
            )
            raise ConfigError(
                [
                    f"device=cuda:{index}: this machine has {count or 'no'} CUDA device(s). Use "
                    f"{cure}."
                ]
            )
        device = torch.device("cuda", index)
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError([f"device={name}: this machine has no MPS. Use device=auto."])
    precision = options["precision"]
    if device.type != "cuda" and (
        precision == "tf32" or (precision == "fp16" and device.type == "cpu")
    ):
        raise ConfigError(
            [f"device.precision={precision} does not run on {device.type}. Use fp32 or bf16."]
        )
    if options["cuda_graphs"] and device.type != "cuda":
        raise ConfigError([f"device.cuda_graphs=true needs a CUDA device, this is {device.type}."])
    # also back to the default: a sweep's jobs share the process
    torch.set_num_threads(options["threads"] or THREADS)
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            precision == "tf32"
        )
    layout = options["channels_last"]
    # measured on LeNet at batch 128, CPU: 1.6 times the images per second with channels_last
    channels_last = device.type == "cpu" if layout == "auto" else layout
    return Device(device, precision, channels_last, options["compile"], options["cuda_graphs"])
