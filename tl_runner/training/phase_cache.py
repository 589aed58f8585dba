"""Phases that several runs have in common, computed once: weights and metrics kept under a key made
of their content.

The key holds everything that the phase's outcome depends on: the first weights, the images and
labels, the options, the seed, the device and the code itself. So a stored phase is, to the bit,
what computing it again would give, or it is not found.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tl_runner
from tl_runner.backbones import Backbone
from tl_runner.data.splits import Split
from tl_runner.errors import CheckpointError
from tl_runner.files import claimed
from tl_runner.methods.base import Method
from tl_runner.methods.phases import Phase
from tl_runner.training import checkpoints
from tl_runner.training.device import Device
from tl_runner.training.position import Position


def key(
    method: Method,
    phase: Phase,
    seed: int,
    splits: Mapping[str, Split],
    device: Device,
    options: Mapping[str, Any],
) -> str:
    """The name of a phase's outcome, 32 hex digits.

    Args:
        method: whose phase it is; for its code.
        phase: as it is about to start; its networks' weights are part of the key.
        splits: those that it reads or that are evaluated while it runs.
        options: what else its outcome depends on, as JSON.
    """
    said = {
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
            m.options for n in _networks(phase) for m in n.modules() if isinstance(m, Backbone)
        ],
        "resting": [repr(layer) for layer in phase.eval_layers],
        "updates": [
            [u.name, u.optimizer and dict(u.optimizer), u.repeats, u.gate and vars(u.gate)]
            for u in phase.updates
        ],
        "seed": seed,
        "options": options,
    }
    digest = blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16)
    for name in sorted(splits):
        digest.update(name.encode())
        for tensor in (
            splits[name].x,
            splits[name].y,
            splits[name].ids,
            splits[name].domain,
            *splits[name].also.values(),
        ):
            _add(digest, tensor)
    for network in _networks(phase):
        digest.update(repr(network).encode())  # what has no weights: dropout, activations
    digest.update(_of_weights([n.state_dict() for n in _networks(phase)]).encode())
    return digest.hexdigest()


def outcome(
    phase: Phase,
    at: Position,
    rows: Sequence[Mapping[str, Any]],
    before: tuple[float, int],
    wall_s: float,
) -> dict[str, Any]:
    """What is to be known of a phase that just ended beside its weights.

    Args:
        rows: of ``metrics.jsonl``.
        before: seconds of training and images when it began.
        wall_s: that it took.
    """
    return {
        "rows": [row for row in rows if row["phase"] == phase.name],
        "warnings": [text for text in at.warnings if text.startswith(phase.name)],
        "epochs": at.epoch,
        "stopped": at.stopped,
        "train_s": at.train_s - before[0],
        "images": at.images - before[1],
        "wall_s": wall_s,
    }


def take_over(at: Position, stored: Mapping[str, Any]) -> None:
    """Stand where a run stands that computed the phase itself."""
    at.stopped = stored["stopped"]
    at.epoch, at.images, at.train_s = (
        stored["epochs"],
        at.images + stored["images"],
        at.train_s + stored["train_s"],
    )


def _of_weights(networks: Sequence[Mapping[str, Tensor]]) -> str:
    digest = blake2b(digest_size=16)
    for weights in networks:
        for name, tensor in weights.items():
            digest.update(name.encode())
            _add(digest, tensor)
    return digest.hexdigest()


def _add(digest: Any, tensor: Tensor | None) -> None:
    if tensor is not None:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy()
            if tensor.ndim
            else str(tensor.item()).encode()
        )


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


def _networks(phase: Phase) -> list[torch.nn.Module]:
    return list(dict.fromkeys(n for u in phase.updates for n in u.networks))


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


class PhaseCache:
    """A folder of finished phases. Whatever cannot be read or written there is computed instead."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str, phase: Phase) -> dict[str, Any] | None:
        """Put a stored phase's weights into its networks; what was stored beside them, or None."""
        try:
            state = checkpoints.load(self.folder / f"{key}.pt", {})
            pairs = list(zip(_networks(phase), state["networks"], strict=True))
            if any(_shapes(network.state_dict()) != _shapes(weights) for network, weights in pairs):
                return None
            # a flipped bit is read without complaint
            if state["digest"] != _of_weights(state["networks"]):
                return None
            for network, weights in pairs:
                network.load_state_dict(weights)
            return dict(state["record"])
        except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def save(self, key: str, phase: Phase, record: Mapping[str, Any]) -> None:
        """Keep a finished phase: its networks' weights and ``record``."""
        networks = [n.state_dict() for n in _networks(phase)]
        state = {"networks": networks, "digest": _of_weights(networks), "record": dict(record)}
        try:
            checkpoints.save(self.folder / f"{key}.pt", state)
        except OSError:  # a full disk costs time here, not the run
            return

    def claim(self, key: str, asked_to_stop: Callable[[], bool]) -> AbstractContextManager:
        """Wait until no other process computes ``key``, and keep others waiting meanwhile."""
        return claimed(self.folder / f"{key}.lock", asked_to_stop)
