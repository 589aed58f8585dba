"""Early stopping: a phase ends when its validation accuracy no longer rises, and goes back to the
weights of its best epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tl_runner.training.checkpoints import put_back, weights_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import nn

    from tl_runner.methods.phases import Phase


class EarlyStopping:
    """The best weights of one phase so far, and how long ago they were found.

    Args:
        patience: epochs without a better accuracy that are waited for.
        split: the accuracy on which decides.
        networks: their best weights are kept.
        besides: names of those in it that stay as they are.
    """

    def __init__(self, patience: int, split: str, networks: nn.Module, besides: Sequence[str] = ()):
        self.patience, self.split, self.networks, self.besides = patience, split, networks, besides
        self.best, self.epoch, self.waited = -math.inf, 0, 0
        self.weights: dict[str, Any] = {}

    def see(self, epoch: int, accuracy: float) -> None:
        """Count an epoch in, and keep its weights if it is the best; the networks are as they were
        evaluated."""
        if accuracy > self.best:
            self.best, self.epoch, self.waited = accuracy, epoch, 0
            self.weights = {
                name: tensor.detach().clone()
                for name, tensor in weights_of(self.networks, self.besides).items()
            }
        else:
            self.waited += 1

    @property
    def over(self) -> bool:
        """True once the phase has waited long enough."""
        return self.waited >= self.patience

    def go_back(self) -> dict[str, Any]:
        """Put the best epoch's weights into the networks; returns what the record says of it."""
        put_back(self.networks, self.weights, self.besides)
        return {"epoch": self.epoch, "split": self.split, "accuracy": self.best}

    def state_dict(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "epoch": self.epoch,
            "waited": self.waited,
            "weights": self.weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best, self.epoch, self.waited = state["best"], state["epoch"], state["waited"]
        self.weights = dict(state["weights"])


def validated_on(phase: Phase, splits: Collection[str]) -> list[str]:
    """The splits whose accuracy may stop a phase, the best first: the target's validation images if
    it learns from target labels."""
    reads = {*phase.reads.values()}
    wanted = [
        s
        for s, of in (
            ("target_val", "target_labelled"),
            ("source_val", "source_train"),
            ("meta_val", "meta_train"),
        )
        if of in reads
    ]
    return [
        split
        for split in wanted
        if split in splits and split.partition("_")[0] in phase.outputs.domains
    ]


def unvalidated(phase: Phase, splits: Collection[str]) -> list[str]:
    """The problem of a phase with patience that no split can be validated on, if it is one."""
    if validated_on(phase, splits):
        return []
    if not phase.outputs.domains:
        why = "nothing scores it. Set"
    elif "meta_train" in phase.reads.values():
        why = "this data has no validation classes. Set"
    elif {"target_labelled", "source_train"} & {*phase.reads.values()}:
        why = (
            "this data has no labelled images to validate it on. Where it has "
            "data.val_fraction, set that above 0; else"
        )
    else:
        why = "it reads no labels, so no accuracy says when to stop. Set"
    return [
        f"patience={phase.length.patience}, in the phase {phase.name}: {why} "
        f"method.{phase.section or phase.name}.patience=null."
    ]
