"""WiSE-FT: the weights between the pretrained and the fine-tuned network, and how both tasks fare
along the way.

Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022, eq. 1: f(x; (1 - a) theta_0 +
a theta_1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tl_runner.methods.base import cross_entropy
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.finetuning._tuning import Tuning
from tl_runner.methods.phases import Hooks, Length, Phase, Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, Metrics, SplitPasses
    from tl_runner.methods.setting import Setting


class WiseFt(ModelTransfer):
    """Phases: those of fine-tuning, then ``interpolate``, which trains nothing: each of its epochs
    stands at one mixture.

    The last epoch stands at ``mix``; another rule of ``selection`` chooses among all. A head that
    is the target's own stays as fine-tuned, batch norm's statistics are mixed as the weights are.

    Args:
        pretrain, new_head: of the source's network.
        mix: a, the share of the fine-tuned weights.
        points: how many mixtures from 0 to 1 are looked at.
        tuning: of :class:`Tuning`.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        pretrain: Mapping[str, Any],
        new_head: bool | None,
        mix: float,
        points: int,
        **tuning: Any,
    ):
        super().__init__(setting, pretrain=pretrain, new_head=new_head)
        self.tuning = Tuning(self, **tuning)
        self.mixtures = [i / (points - 1) for i in range(points)] + [mix]
        self.pretrained = nn.ModuleDict({"encoder": self.fresh("backbone", setting.make_backbone)})
        self.tuned_to = nn.ModuleDict({"encoder": self.fresh("backbone", setting.make_backbone)})
        if not self.new_head:
            for held in (self.pretrained, self.tuned_to):
                held["head"] = self.fresh(
                    "head", lambda: nn.Linear(self.head.in_features, self.head.out_features)
                )

    def start(self) -> None:
        super().start()
        self.tuning.keep_start()
        self.keep(self.pretrained)

    def phases(self) -> list[Phase]:
        return self.after_pretraining(*self.tuning.phases(self.step), self.between())

    def step(self, batch: Batch, progress: float) -> Losses:
        """Cross-entropy of labelled target images, and the regulariser's losses."""
        features = self.features(batch.target.x)
        logits, smoothing = self.head(features), self.tuning.options["label_smoothing"]
        return {
            "cross_entropy": cross_entropy(logits, [batch.target], smoothing),
            **self.tuning.penalties(features),
        }

    # ---- between the two networks

    def between(self) -> Phase:
        """The phase ``interpolate``."""
        options = self.tuning.options
        length = {"epochs": len(self.mixtures), "steps_per_epoch": 1, "patience": None}
        phase = self.on_target(
            "interpolate",
            options,
            Update("interpolate", [], None, self.mixture),
            length=Length.of({**options, **length}, ignores_limit=True),
            sampling=Sampling.of(options, augment=False),
            hooks=Hooks(begin=lambda: self.keep(self.tuned_to), each_epoch=self.interpolate),
            ema=None,
        )
        if not self.new_head:
            phase.outputs.source_predict = None  # the mixture answers for both
        return phase

    def mixture(self, batch: Batch, progress: float) -> tuple[Losses, Metrics]:
        """No losses; the epoch's ``mix`` as a metric."""
        return {}, {"mix": batch.precomputed["mix"]}

    def keep(self, where: nn.ModuleDict) -> None:
        """Copy the network as it is to ``where``."""
        for name, module in where.items():
            module.load_state_dict(getattr(self, name).state_dict())

    @torch.no_grad()
    def interpolate(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Put the epoch's mixture of weights into the network (eq. 1)."""
        a = self.mixtures[passes.epoch]
        for name, module in self.pretrained.items():
            zero, one = module.state_dict(), self.tuned_to[name].state_dict()
            mixed = {
                k: torch.lerp(v, one[k], a) if v.is_floating_point() else one[k]
                for k, v in zero.items()
            }
            getattr(self, name).load_state_dict(mixed)
        return {"mix": torch.tensor(a)}

    def findings(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """``curve``: the accuracies by mixture and split, from the epochs of ``interpolate``."""
        own = [
            row
            for row in rows
            if row.get("phase") == "interpolate" and "step" in row and "accuracy" in row
        ]
        curve = []
        for epoch, a in enumerate(self.mixtures[:-1], start=1):
            found = {row["split"]: row["accuracy"] for row in own if row["epoch"] == epoch}
            curve += [{"mix": a, **found}] if found else []
        return {"curve": curve}
