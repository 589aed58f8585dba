"""Several teachers: a student learns from a mixture of their outputs.

You, Xu, Xu & Tao, "Learning from Multiple Teacher Networks", KDD 2017, whose soft targets are the
teachers' mean; the mean of a trained ensemble is already in Hinton, Vinyals & Dean, 2014. A gate
for each image: Jacobs, Jordan, Nowlan & Hinton, "Adaptive Mixtures of Local Experts", 1991. Shares
by validation are AdaBoost's for several classes: Zhu, Zou, Rosset & Hastie, "Multi-class AdaBoost",
2009.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tl_runner.errors import ConfigError, one_of
from tl_runner.losses.distillation import agreement, gate_loss, mixture, soft_targets
from tl_runner.methods.distillation._base import Distillation
from tl_runner.methods.phases import Hooks, Length, Outputs, Phase, Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.setting import Setting

WEIGHTINGS = ("average", "agreement", "validation", "gate")


class MultiTeacher(Distillation):
    """Phases: ``teach``, ``teach_2``, ...; ``alone`` (the student by labels alone); ``distil``.

    Before the last one, ``weigh`` computes shares by validation. It trains nothing.

    Args:
        temperature: T of all networks' softmax.
        weight: of T^2 KL(mixture || student).
        weighting: ``average``; ``agreement`` with the other teachers, by image; ``validation``:
            log-odds of being right on validation images; ``gate``: by image, learned from the
            student's features, so that the mixture gives the labels much.

    Attributes:
        shares: of the teachers, (M,), where they are the same for all images.

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
        self.validation = next(
            (name for name in ("target_val", "source_val") if name in setting.splits), ""
        )
        self._refuse_conflicts()
        self.scaffold = (*self.scaffold, "gate", "shares")
        teachers = len(self.teachers)
        if not setting.deployed:
            self.register_buffer("shares", torch.full((teachers,), 1 / teachers))
        if weighting == "gate" and not setting.deployed:
            self.gate = self.fresh("gate", lambda: nn.Linear(self.encoder.out_features, teachers))

    def _refuse_conflicts(self) -> None:
        if len(self.teachers) == 1:
            raise ConfigError(
                [
                    "method=multi_teacher: one teacher is method=kd. Name several runs in "
                    "method.teacher, or train method.teachers."
                ]
            )
        distil = self.distil_options
        if self.weighting == "gate" and (distil["mixup"] or distil["cutmix"]):
            raise ConfigError(
                [
                    "method.weighting=gate learns from labels of whole images: set "
                    "method.distil.mixup and cutmix to 0."
                ]
            )
        if self.weighting == "validation" and not self.validation and not self.setting.deployed:
            raise ConfigError(
                [
                    "method.weighting=validation asks who is right on validation images: set "
                    "data.val_fraction above 0."
                ]
            )

    @property
    def titles(self) -> dict[str, str]:  # type: ignore[override]
        return {
            **super().titles,
            "teach": "teacher 1",
            **{f"teach_{i}": f"teacher {i}" for i in range(2, len(self.teachers) + 1)},
        }

    # ---- shares by validation

    def distil_phases(self) -> list[Phase]:
        gated = self.weighting == "gate" and not self.setting.deployed
        more = [self.gate] if gated else []
        return [*self.weigh_phases(), self.student_phase("distil", self.distil_options, more)]

    def weigh_phases(self) -> list[Phase]:
        """The phase that scores every teacher on the validation images, if it is asked for."""
        if self.weighting != "validation" or self.setting.deployed:
            return []

        def report(batch: Batch, progress: float) -> tuple[Losses, Losses]:
            return {}, {f"share_{i + 1}": share for i, share in enumerate(self.shares)}

        return [
            Phase(
                "weigh",
                {self.validation.partition("_")[0]: self.validation},
                [Update("weigh", [], None, report)],
                Length(1, self.distil_options["batch_size"], 1, ignores_limit=True),
                Outputs(self, domains=()),
                Sampling(augment=False),
                Hooks(each_epoch=self.weigh),
            )
        ]

    @torch.no_grad()
    def weigh(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Set the shares to log(a / (1 - a)) + log(K - 1), a the accuracy on validation images.

        A teacher that is right by chance has none.
        """
        domain = self.validation.partition("_")[0]
        y, odds = passes.labels(domain), []
        for teacher in self.teacher_list:
            right = (passes(teacher, domain).argmax(1) == y).float().mean().item()
            right = min(max(right, 0.5 / len(y)), 1 - 0.5 / len(y))
            odds.append(
                max(0.0, math.log(right / (1 - right)) + math.log(self.setting.num_classes - 1))
            )
        if sum(odds):
            self.shares.copy_(torch.tensor(odds) / sum(odds))
        return {}

    # ---- a step

    def query_teachers(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": torch.stack([teacher(x) for teacher in self.teacher_list], 1)}

    def step(self, batch: Batch, progress: float) -> Losses:
        student, teachers = self.student_outputs(batch), self.teacher_outputs(batch)
        losses = self.label_loss(batch, student)
        logits, shares = teachers["logits"].float(), self.shares  # (B, M, K), (M,)
        if self.weighting == "agreement":
            shares = agreement((logits / self.temperature).softmax(2))  # (B, M)
        elif self.weighting == "gate":
            assert batch.target.y is not None
            log_shares = self.gate(student.features.detach()).float().log_softmax(1)  # (B, M)
            losses["gate"] = gate_loss(log_shares, logits, batch.target.y)
            shares = log_shares.detach().exp()
        mixed = mixture(logits, shares, self.temperature)
        return {
            **losses,
            "soft_targets": self.weight * soft_targets(student.logits, mixed, self.temperature),
        }

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``shares`` of the teachers, where they are the same for all images."""
        found = super().findings(rows)
        if self.weighting in ("agreement", "gate"):
            return found
        return {**found, "shares": [round(share, 4) for share in self.shares.tolist()]}
