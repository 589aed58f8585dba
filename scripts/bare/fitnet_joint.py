"""FitNet in one stage: the hint is a loss beside the labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bare._distil import pairs, taught
from bare._loop import Bare, Ground
from tl_runner.methods.batch import Samples


def bare(ground: Ground) -> Bare:
    ((guided, hint),) = pairs(ground)
    regress, weight = ground.method.regressor, ground.options["weight"]

    def compare(s: Tensor, teacher: Tensor, target: Samples, progress: float) -> Tensor:
        return weight * F.mse_loss(regress(guided[1][-1]).float(), hint[1][-1].float())

    return taught(ground, compare, [guided, hint], [regress])
