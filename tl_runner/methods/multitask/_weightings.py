"""How the tasks' losses or gradients are brought together: one class for each word of
``method.weighting``.

Their formulas are those of ``losses/multitask.py``. What is learned or counted for them are
parameters and buffers of the method, the same for every weighting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tl_runner.losses.multitask import dynamic_weight_average, gradnorm, pcgrad, uncertainty
from tl_runner.methods.phases import Group

if TYPE_CHECKING:
    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.multitask.multitask import MultiTask

LEAST = 1e-3  # GradNorm's weights stay above it


class Weighting:
    """Base of the weightings, each of which says what is not as usual.

    Attributes:
        couples: the weighting goes by the losses or gradients of whole batches.
        records: the losses that it returns are weighed, so the tasks' own are recorded beside them.
    """

    couples = False
    records = False

    def __init__(self, method: MultiTask):
        self.method = method

    def weigh(self, losses: Losses, batch: Batch) -> Losses:
        """The tasks' losses as they are minimised."""
        return losses

    def of_update(self) -> dict[str, Any]:
        """The fields of the :class:`Update` that the weighting sets, but for ``couples``."""
        return {}

    def of_hooks(self) -> dict[str, Any]:
        """The fields of the phase's :class:`Hooks` that the weighting sets."""
        return {}

    def weights(self) -> Tensor | None:
        """The weights (T,) as training left them; None where there are none."""
        return None

    def groups(self, weights: torch.nn.Parameter) -> list[Group]:
        """The network's parameters, and the weights at a rate of their own, without decay."""
        network = Group([*self.method.shared.parameters()])
        return [network, Group([weights], self.method.weight_rate, weight_decay=0.0)]


class Equal(Weighting):
    """The sum of the losses."""


class Uncertainty(Weighting):
    """Weights from a log variance of each task, learned with the network (Kendall et al. 2018)."""

    records = True

    def weigh(self, losses: Losses, batch: Batch) -> Losses:
        sizes, log_variances = self.method.sizes, self.method.log_variances
        return {
            task: uncertainty(loss, s, not sizes[task])
            for (task, loss), s in zip(losses.items(), log_variances, strict=True)
        }

    def of_update(self) -> dict[str, Any]:
        return {"groups": self.groups(self.method.log_variances)}

    def weights(self) -> Tensor:
        return torch.exp(-self.method.log_variances)


class DynamicAverage(Weighting):
    """Weights of an epoch from the mean losses of the last two (DWA, Liu et al. 2019)."""

    couples = True
    records = True

    def weigh(self, losses: Losses, batch: Batch) -> Losses:
        self.method.running += torch.stack([loss.detach().float() for loss in losses.values()])
        self.method.steps += 1
        weights = batch.precomputed["weights"]
        return {task: w * loss for w, (task, loss) in zip(weights, losses.items(), strict=True)}

    def of_hooks(self) -> dict[str, Any]:
        return {"each_epoch": self.average}

    def average(self, passes: SplitPasses) -> dict[str, Tensor]:
        """The weights of the epoch that begins; 1 in the first two."""
        method = self.method
        if passes.epoch:
            method.history.copy_(torch.stack([method.running / method.steps, method.history[0]]))
        method.running.zero_()
        method.steps.zero_()
        if passes.epoch > 1:
            return {"weights": self.from_history()}
        return {"weights": torch.ones_like(method.history[0])}

    def from_history(self) -> Tensor:
        last, before = self.method.history
        return dynamic_weight_average(last, before, self.method.temperature)

    def weights(self) -> Tensor | None:
        return self.from_history() if (self.method.history > 0).all() else None


class GradNorm(Weighting):
    """Weights learned so that the tasks' gradients are of like norms (Chen et al. 2018)."""

    couples = True

    def of_update(self) -> dict[str, Any]:
        return {
            "groups": self.groups(self.method.weights),
            "gradients": self.gradients,
            "after": self.renormalise,
        }

    def gradients(self, losses: Losses) -> None:
        """Gradients of the network from the weighed losses, of the weights from GradNorm's own."""
        method = self.method
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        method.first.copy_(torch.where(method.first == 0, values, method.first))
        last = [*[*method.shared.encoder.blocks().values()][-1][0].parameters()]
        found = [torch.autograd.grad(loss, last, retain_graph=True) for loss in losses.values()]
        norms = torch.stack(
            [torch.cat([g.flatten().float() for g in each]).norm() for each in found]
        )
        pairs = zip(method.weights.detach(), losses.values(), strict=True)
        torch.stack([w * loss for w, loss in pairs]).sum().backward()
        gradnorm(method.weights, norms, values, method.first, method.asymmetry).backward()

    @torch.no_grad()
    def renormalise(self) -> None:
        """Bring the weights to a sum of the number of tasks."""
        weights = self.method.weights
        weights.clamp_(min=LEAST)
        weights.mul_(len(weights) / weights.sum())

    def weights(self) -> Tensor:
        return self.method.weights


class PCGrad(Weighting):
    """Gradients of the shared weights, each without what points against another's (Yu et al.
    2020)."""

    couples = True

    def of_update(self) -> dict[str, Any]:
        return {"gradients": self.gradients}

    def gradients(self, losses: Losses) -> None:
        """Gradients of the shared weights as PCGrad combines them, of each head from its own
        loss."""
        network = self.method.shared
        shared = [*network.encoder.parameters()]
        found = []
        for task, loss in losses.items():
            head = [*network.heads[task].parameters()]
            gradients = torch.autograd.grad(loss, [*shared, *head], retain_graph=True)
            found.append(torch.cat([g.flatten() for g in gradients[: len(shared)]]))
            for p, g in zip(head, gradients[len(shared) :], strict=True):
                p.grad = g
        n, device = len(found), found[0].device
        orders = torch.rand(n, n, device=device).argsort(1)
        combined = pcgrad(torch.stack(found), orders)
        for p, g in zip(shared, combined.split([p.numel() for p in shared]), strict=True):
            p.grad = g.view_as(p)


WEIGHTINGS: dict[str, type[Weighting]] = {
    "equal": Equal,
    "uncertainty": Uncertainty,
    "dwa": DynamicAverage,
    "gradnorm": GradNorm,
    "pcgrad": PCGrad,
}
