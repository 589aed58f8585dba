"""Phases that several runs have in common, computed once: weights and metrics in a folder, by
:mod:`~tl_runner.training.phase_key`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import CheckpointError
from tl_runner.files import claimed
from tl_runner.training import checkpoints
from tl_runner.training.phase_key import digest_of, networks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from torch import Tensor

    from tl_runner.methods.phases import Phase
    from tl_runner.training.position import Position


class PhaseCache:
    """A folder of finished phases. Whatever cannot be read or written there is computed instead."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self, key: str, phase: Phase) -> dict[str, Any] | None:
        """Put a stored phase's weights into its networks; returns the record beside them, or None
        where there is none that fits."""
        try:
            state = checkpoints.load(self.folder / f"{key}.pt", {})
            pairs = list(zip(networks_of(phase), state["networks"], strict=True))
            if any(_shapes(network.state_dict()) != _shapes(weights) for network, weights in pairs):
                return None
            # a flipped bit is read without complaint
            if state["digest"] != digest_of(state["networks"]):
                return None
            for network, weights in pairs:
                network.load_state_dict(weights)
            return dict(state["record"])
        except (CheckpointError, KeyError, TypeError, ValueError, AttributeError):
            return None

    def save(self, key: str, phase: Phase, record: Mapping[str, Any]) -> None:
        """Keep a finished phase: its networks' weights and ``record``."""
        networks = [n.state_dict() for n in networks_of(phase)]
        state = {"networks": networks, "digest": digest_of(networks), "record": dict(record)}
        try:
            checkpoints.save(self.folder / f"{key}.pt", state)
        except OSError:  # a full disk costs time here, not the run
            return

    def claim(self, key: str, asked_to_stop: Callable[[], bool]) -> AbstractContextManager:
        """Wait until no other process computes ``key``, and keep others waiting meanwhile."""
        return claimed(self.folder / f"{key}.lock", asked_to_stop)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}


def outcome(
    phase: Phase,
    at: Position,
    rows: Sequence[Mapping[str, Any]],
    before: tuple[float, int],
    wall_s: float,
) -> dict[str, Any]:
    """Record of a phase that just ended, to be kept beside its weights.

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
    """Move a run to where it would stand, had it computed the phase itself."""
    at.stopped = stored["stopped"]
    at.epoch, at.images, at.train_s = (
        stored["epochs"],
        at.images + stored["images"],
        at.train_s + stored["train_s"],
    )
