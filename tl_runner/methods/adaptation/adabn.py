"""AdaBN: the target gets batch-norm statistics of its own; no weight is trained.

Li, Wang, Shi, Hou & Liu, "Adaptive Batch Normalization for practical domain adaptation", Pattern
Recognition 2018, algorithm 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.modules.dropout import _DropoutNd

from tl_runner.backbones._batch_norm import norms_of
from tl_runner.errors import ConfigError
from tl_runner.methods.adaptation._target_encoder import TargetEncoder
from tl_runner.methods.phases import Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class AdaBN(TargetEncoder):
    """Two phases: ``pretrain``; and ``adapt``, one pass that gives the target encoder its norms'
    statistics.

    They are means over the batches of that pass, without images that fill no batch. Source images
    keep the source's.

    Raises:
        ConfigError: the backbone has no batch norm, or ``backbone.bn`` keeps its statistics.
    """

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting, pretrain=pretrain, adapt=adapt)
        self.norms = norms_of(self.target_encoder)
        if not self.norms or setting.bn == "frozen":
            raise ConfigError(
                [
                    "method=adabn replaces batch norm's statistics: it needs a backbone that has "
                    "some, and backbone.bn other than frozen."
                ]
            )
        for norm in self.norms:
            norm.momentum = 1.0  # a forward pass leaves its own batch's statistics

    def start(self) -> None:
        super().start()
        for norm in self.norms:
            norm.reset_running_stats()

    def phases(self) -> list[Phase]:
        update = Update("statistics", [self.target_encoder], None, self.update_statistics)
        return self.adapting(
            [update],
            {"target": "target_train"},
            sampling=Sampling.of(self.adapt, augment=False),
            source_predict=self,
        )

    def eval_layers(self, encoder: nn.Module) -> list[nn.Module]:
        """Dropout too, since the statistics are those of the network that predicts."""
        return [
            *super().eval_layers(encoder),
            *(m for m in encoder.modules() if isinstance(m, _DropoutNd)),
        ]

    def update_statistics(self, batch: Batch, progress: float) -> Losses:
        """A forward pass of batch.target.x, (B, C, H, W), that trains nothing.

        Each norm's statistics become the means over all batches so far (algorithm 1).
        """
        names = ("running_mean", "running_var")
        statistics = [
            (norm.get_buffer(name), norm.get_buffer("num_batches_tracked"))
            for norm in self.norms
            for name in names
        ]
        so_far = [mean.clone() for mean, _ in statistics]
        self.target_encoder(batch.target.x)
        for (mean, batches), before in zip(statistics, so_far, strict=True):
            # the batches' number stays on the device
            mean.copy_(before.lerp(mean, batches.float().reciprocal()))
        return {}
