"""Several teachers: a student learns from a mixture of their answers.

You, Xu, Xu & Tao, "Learning from Multiple Teacher Networks", KDD 2017, whose soft targets are the
teachers' mean; the mean of a trained ensemble is already in Hinton, Vinyals & Dean, 2014. A gate
for each image: Jacobs, Jordan, Nowlan & Hinton, "Adaptive Mixtures of Local Experts", 1991. Shares
by validation are AdaBoost's for several classes: Zhu, Zou, Rosset & Hastie, "Multi-class AdaBoost",
2009.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._inner_layers import Seen
from tl_runner.errors import ConfigError, one_of
from tl_runner.losses.distillation import agreement, mixture, soft_targets
from tl_runner.methods.base import Setting
from tl_runner.methods.batch import Losses, Samples, SplitPasses
from tl_runner.methods.distillation._base import Answers, Distillation
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase, Sampling, Update

WEIGHTINGS = ("average", "agreement", "validation", "gate")


class MultiTeacher(Distillation):
    """Phases: ``teach``, ``teach_2``, ...; the student by labels alone; ``weigh``, which trains
    nothing, if needed; ``distil``.

    Args:
        temperature: T of all networks' softmax.
        weight: of T^2 KL(mixture || student).
        weighting: ``average``; ``agreement`` with the other teachers, by image; ``validation``:
            log-odds of being right on validation images; ``gate``: by image, learned from the
            student's features, so that the mixture gives the labels much.

    Raises:
        ConfigError: no such weighting; a single teacher; no validation images; mixed images for a
            gate.
    """

    several = True
    shares: Tensor

    def __init__(
        self, setting: Setting, *, temperature: float, weight: float, weighting: str, **options: Any
    ):
        one_of("method.weighting", weighting, WEIGHTINGS)
        self.needs_labels = weighting == "gate"
        super().__init__(setting, **options)
        self.temperature, self.weight, self.weighting = temperature, weight, weighting
        if len(self.teachers) == 1:
            raise ConfigError(
                [
                    "method=multi_teacher: one teacher is method=kd. Name several runs in "
                    "method.teacher, or train method.teachers."
                ]
            )
        if weighting == "gate" and (self.distil["mixup"] or self.distil["cutmix"]):
            raise ConfigError(
                [
                    "method.weighting=gate learns from labels of whole images: set "
                    "method.distil.mixup and cutmix to 0."
                ]
            )
        self.validation = next(
            (name for name in ("target_val", "source_val") if name in setting.splits), ""
        )
        if weighting == "validation" and not self.validation and not setting.deployed:
            raise ConfigError(
                [
                    "method.weighting=validation asks who is right on validation images: set "
                    "data.val_fraction above 0."
                ]
            )
        self.scaffold = (*self.scaffold, "gate", "shares")
        if not setting.deployed:
            self.register_buffer(
                "shares", torch.full((len(self.teachers),), 1 / len(self.teachers))
            )
        if weighting == "gate" and not setting.deployed:
            self.gate = self.fresh(
                "gate", lambda: nn.Linear(self.encoder.out_features, len(self.teachers))
            )

    @property
    def titles(self) -> dict[str, str]:  # type: ignore[override]
        return {
            **super().titles,
            "teach": "teacher 1",
            **{f"teach_{i}": f"teacher {i}" for i in range(2, len(self.teachers) + 1)},
        }

    def distilling(self) -> list[Phase]:
        more = [self.gate] if self.weighting == "gate" and not self.setting.deployed else []
        return [*self.weighing(), self.distil_phase("distil", self.distil, more)]

    def weighing(self) -> list[Phase]:
        """The phase that asks every teacher about the validation images."""
        if self.weighting != "validation" or self.setting.deployed:
            return []

        def report(batch: Any, progress: float) -> tuple[Losses, Losses]:
            return {}, {f"share_{i + 1}": share for i, share in enumerate(self.shares)}

        size = self.distil["batch_size"]
        update = Update("weigh", [], None, report)
        reads = {self.validation.partition("_")[0]: self.validation}
        return [
            Phase(
                "weigh",
                reads,
                [update],
                Length(1, size, 1, ignores_limit=True),
                Outputs(self, domains=()),
                Sampling(augment=False),
                Hooks(each_epoch=self.weigh),
            )
        ]

    @torch.no_grad()
    def weigh(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Shares by log(a / (1 - a)) + log(K - 1), a the accuracy on the validation images; a
        teacher by chance has none."""
        domain = self.validation.partition("_")[0]
        y, odds = passes.labels(domain), []
        for teacher in self.every_teacher:
            right = (passes(teacher, domain).argmax(1) == y).float().mean().item()
            right = min(max(right, 0.5 / len(y)), 1 - 0.5 / len(y))
            odds.append(
                max(0.0, math.log(right / (1 - right)) + math.log(self.setting.num_classes - 1))
            )
        if sum(odds):
            self.shares.copy_(torch.tensor(odds) / sum(odds))
        return {}

    def consult(self, x: Tensor, answers: Answers) -> dict[str, Tensor]:
        return {"logits": torch.stack([asked(x).logits for asked in self.asked], 1)}

    def transfer(
        self, student: Seen, teacher: Mapping[str, Tensor], taught: Samples, progress: float
    ) -> Losses:
        logits = teacher["logits"].float()  # (B, M, K)
        losses: dict[str, Tensor] = {}
        shares = self.shares
        if self.weighting == "agreement":
            shares = agreement((logits / self.temperature).softmax(2))
        elif self.weighting == "gate":
            assert taught.y is not None
            log_shares = self.gate(student.features.detach()).float().log_softmax(1)
            of_label = logits.log_softmax(2).gather(
                2, taught.y[:, None, None].expand(-1, logits.shape[1], 1)
            )[:, :, 0]
            losses["gate"] = -(log_shares + of_label).logsumexp(1).mean()
            shares = log_shares.detach().exp()
        mixed = mixture(logits, shares, self.temperature)
        return losses | {
            "soft_targets": self.weight * soft_targets(student.logits, mixed, self.temperature)
        }

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``shares`` of the teachers, where they are the same for all images."""
        shares = (
            {}
            if self.weighting in ("agreement", "gate")
            else {"shares": [round(share, 4) for share in self.shares.tolist()]}
        )
        return super().findings(rows) | shares
