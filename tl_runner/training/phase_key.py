"""The name under which a phase is shared between runs: a digest of all that its outcome depends on.

That is the first weights, the images and labels, the options, the seed, the device and the code
itself. So a phase of the same name is, to the bit, what computing it again would give.
"""

from __future__ import annotations

import json
import platform
import sys
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

import tl_runner
from tl_runner.backbones import Backbone
from tl_runner.data.rows import in_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.training.device import Device


def key(
    method: Method,
    phase: Phase,
    seed: int,
    splits: Mapping[str, Split],
    device: Device,
    options: Mapping[str, Any],
) -> str | None:
    """The name of a phase's outcome, 32 hex digits; None where the phase is one run's alone.

    Args:
        method: whose phase it is; for its code.
        phase: as it is about to start; its networks' weights are part of the key.
        splits: of the run: those that the phase reads, or that are evaluated while it runs, are
            part of the key.
        options: what else its outcome depends on, as JSON.
    """
    if phase.shared is None or phase.hooks.begin:
        return None
    depends_on = {
        "code": code(frozenset(own_files(method))),
        "machine": [
            torch.__version__,
            version("torchvision"),
            torch.backends.cpu.get_cpu_capability(),
            processor(),
            torch.backends.cudnn.version(),
        ],
        "device": [
            device.describe(),
            device.precision,
            device.channels_last,
            device.compile,
            device.cuda_graphs,
        ],
        "phase": [
            phase.name,
            dict(phase.reads),
            phase.length.epochs,
            phase.length.batch_size,
            phase.length.steps_per_epoch,
            phase.shared,
            phase.sampling.augment,
        ],
        "more": [
            phase.length.accumulate,
            phase.ema,
            phase.length.patience,
            phase.sampling.mixup,
            phase.sampling.cutmix,
            phase.sampling.balance,
            list(phase.sampling.leave_out),
        ],
        "backbones": [
            m.options for n in networks_of(phase) for m in n.modules() if isinstance(m, Backbone)
        ],
        "eval_layers": [repr(layer) for layer in phase.eval_layers],
        "updates": [
            [u.name, u.optimizer and dict(u.optimizer), u.repeats, u.gate and vars(u.gate)]
            for u in phase.updates
        ],
        "seed": seed,
        "options": options,
    }
    digest = blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=16)
    for name in sorted(splits):
        if name == "target_labelled" and name not in phase.reads.values():
            continue
        digest.update(name.encode())
        for tensor in (
            splits[name].x,
            splits[name].y,
            splits[name].ids,
            splits[name].domain,
            splits[name].views,
            *splits[name].also.values(),
        ):
            _add(digest, tensor)
    for network in networks_of(phase):
        digest.update(repr(network).encode())  # what has no weights: dropout, activations
    digest.update(digest_of([n.state_dict() for n in networks_of(phase)]).encode())
    return digest.hexdigest()


def digest_of(networks: Sequence[Mapping[str, Tensor]]) -> str:
    """Digest of the state dicts of some networks, 32 hex digits."""
    digest = blake2b(digest_size=16)
    for weights in networks:
        for name, tensor in weights.items():
            digest.update(name.encode())
            _add(digest, tensor)
    return digest.hexdigest()


def _add(digest: Any, tensor: Tensor | None) -> None:
    if tensor is not None:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        if not tensor.ndim:
            digest.update(str(tensor.item()).encode())
            return
        for part in in_parts(tensor):
            digest.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())


def own_files(method: Method) -> set[Path]:
    """The source files of the packages that a user's own method and networks come from."""
    tops = {c.__module__.split(".")[0] for module in method.modules() for c in type(module).__mro__}
    modules = [sys.modules[top] for top in tops - {"torch", "builtins", "abc", "tl_runner"}]
    packages = [Path(folder) for m in modules for folder in getattr(m, "__path__", ())]
    alone = {Path(m.__file__) for m in modules if not hasattr(m, "__path__") and m.__file__}
    return alone.union(*(folder.rglob("*.py") for folder in packages))


@cache
def processor() -> str:
    """The processor's name: other ones may round otherwise."""
    try:
        return next(
            line
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor()


@cache
def code(others: frozenset[Path]) -> str:
    """A digest of this package's source and of ``others``: other code, other weights."""
    digest = blake2b(digest_size=16)
    for file in (*sorted(Path(tl_runner.__file__).parent.rglob("*.py")), *sorted(others)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def networks_of(phase: Phase) -> list[nn.Module]:
    """The networks that the updates of a phase train."""
    return list(dict.fromkeys(n for u in phase.updates for n in u.networks))
