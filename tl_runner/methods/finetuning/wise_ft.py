"""WiSE-FT: the weights between the pretrained and the fine-tuned network, and how both tasks fare
along the way.

Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022, eq. 1: f(x; (1 - a) theta_0 +
a theta_1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.methods.base import Setting
from tl_runner.methods.batch import SplitPasses
from tl_runner.methods.finetuning.finetune import FineTune
from tl_runner.methods.phases import Phase, Sampling, Update


class WiseFt(FineTune):
    """Phases: those of fine-tuning, then ``interpolate``, which trains nothing: each of its epochs
    stands at one mixture.

    The last epoch stands at ``mix``; another rule of ``selection`` chooses among all. A head that
    is the target's own stays as fine-tuned, batch norm's statistics are mixed as the weights are.

    Args:
        mix: a, the share of the fine-tuned weights.
        points: how many mixtures from 0 to 1 are looked at.
    """

    def __init__(self, setting: Setting, *, mix: float, points: int, **options: Any):
        super().__init__(setting, **options)
        self.mixtures = [i / (points - 1) for i in range(points)] + [mix]
        self.pretrained = nn.ModuleDict({"encoder": self.fresh("backbone", setting.make_backbone)})
        self.tuned_to = nn.ModuleDict({"encoder": self.fresh("backbone", setting.make_backbone)})
        if not self.new_head:
            for held in (self.pretrained, self.tuned_to):
                held["head"] = self.fresh(
                    "head", lambda: nn.Linear(self.head.in_features, self.head.out_features)
                )

    def phases(self) -> list[Phase]:
        options = {
            **self.finetune,
            "epochs": len(self.mixtures),
            "steps_per_epoch": 1,
            "patience": None,
            "ema": None,
        }
        between = self.on_target(
            "interpolate",
            options,
            self.step,
            [],
            each_epoch=self.interpolate,
            sampling=Sampling.of(options, augment=False),
        )
        between.updates = [
            Update(
                "interpolate",
                [],
                None,
                lambda batch, progress: ({}, {"mix": batch.precomputed["mix"]}),
            )
        ]
        between.length.ignores_limit = True
        if not self.new_head:
            between.outputs.source_predict = None  # the mixture answers for both
        between.hooks.begin = lambda: self.keep(self.tuned_to)
        return self.after_pretraining(*self.tuned(), between)

    def start(self) -> None:
        super().start()
        self.keep(self.pretrained)

    def keep(self, where: nn.ModuleDict) -> None:
        """Copy the network as it is."""
        for name, module in where.items():
            module.load_state_dict(getattr(self, name).state_dict())

    @torch.no_grad()
    def interpolate(self, passes: SplitPasses) -> dict[str, Tensor]:
        """Put the epoch's mixture into the network."""
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
        """``curve``: by mixture the accuracies that ``metrics.jsonl`` has of its epoch, by
        split."""
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
