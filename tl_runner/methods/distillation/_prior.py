"""The phase ``match_prior``: biases of classes that the student never saw, moved at the end.

Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2014, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from tl_runner.methods.phases import Hooks, Phase, Sampling, Update
from tl_runner.metrics.prior import shifts_to_prior

if TYPE_CHECKING:
    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.distillation._base import Distillation

# one step that trains nothing, on the images as they are
ONE_STEP = {"epochs": 1, "steps_per_epoch": 1, "augment": False, "mixup": 0.0, "cutmix": 0.0}


def prior_phase(method: Distillation) -> Phase:
    """A phase that trains nothing and moves the head's biases of ``method.leave_out``."""
    options = {**method.distil_options, "ema": None, "patience": None, **ONE_STEP}

    def report(batch: Batch, progress: float) -> tuple[Losses, Losses]:
        moved = batch.precomputed["moved"]
        return {}, {f"bias_{c}": moved[i] for i, c in enumerate(method.leave_out)}

    return method.student_phase(
        "match_prior",
        options,
        updates=[Update("prior", [], None, report)],
        reads={"target": "target_train", "labelled": "target_labelled"},
        hooks=Hooks(each_epoch=lambda passes: shift_biases(method, passes)),
        sampling=Sampling.of(options),
    )


@torch.no_grad()
def shift_biases(method: Distillation, passes: SplitPasses) -> dict[str, Tensor]:
    """Move the bias of each left-out class; ``moved`` are the shifts.

    Afterwards a share of the training images is classified as the class that is its share of the
    labels.
    """
    y = passes.labels("labelled")
    shares = {c: (y == c).float().mean().item() for c in method.leave_out}
    moved = shifts_to_prior(passes(method, "target"), shares)
    method.head.bias[method.leave_out] += moved.to(method.head.bias)
    return {"moved": moved}
