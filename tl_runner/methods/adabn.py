"""AdaBN: the target gets batch-norm statistics of its own; no weight is trained.

Li, Wang, Shi, Hou & Liu, "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition 2018, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_runner.backbones.base import norms_of
from tl_runner.errors import ConfigError
from tl_runner.methods.adaptation import TargetEncoder
from tl_runner.methods.base import Batch, Losses, Phase, Setting, Update


class AdaBN(TargetEncoder):
    """Two phases: ``pretrain`` and ``adapt``: one pass over the target's images, whose statistics the target encoder keeps.

    They are means over the batches of that pass, what fills no batch left out. Source images keep the source's.

    Raises:
        ConfigError: the backbone has no batch norm, or ``backbone.bn`` keeps its statistics.
    """

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting, pretrain=pretrain, adapt=adapt)
        self.norms = norms_of(self.target_encoder)
        if not self.norms or setting.bn == "frozen":
            raise ConfigError(["method=adabn replaces batch-norm statistics: set backbone.batch_norm=true, and backbone.bn not to frozen."])
        for norm in self.norms:
            norm.momentum = None  # a mean over all batches, not a running one

    def start(self) -> None:
        super().start()
        for norm in self.norms:
            norm.reset_running_stats()

    def phases(self) -> list[Phase]:
        update = Update("statistics", [self.target_encoder], None, self.look)
        return self.adapting([update], {"target": "target_train"}, augment=False, source_predict=self)

    def look(self, batch: Batch, progress: float) -> Losses:
        """A forward pass of batch.target.x; batch norm takes note of it."""
        self.target_encoder(batch.target.x)
        return {}
