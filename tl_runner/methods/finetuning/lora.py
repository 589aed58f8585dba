"""LoRA: the network stays as it is; low-rank matrices beside the weights of its layers are trained,
and the head.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang & Chen, "LoRA: Low-Rank Adaptation of Large Language
Models", ICLR 2022. A convolution's weight counts as the matrix (filters, everything else).

DoRA trains the length of each output's weights beside their direction: Liu, Wang, Yin, Molchanov,
Wang, Cheng & Chen, "DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024, eq. 5; by section 4.3
the norm that divides the direction has no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones import _adapters as adapters
from tl_runner.errors import ConfigError
from tl_runner.methods.finetuning._adapted import adapter_phases
from tl_runner.methods.finetuning._base import ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Lora(ModelTransfer):
    """Low-rank matrices on every linear and convolutional layer, or on attention's alone.

    Args:
        finetune: lengths and optimiser of the phase that trains them and the head.
        rank: of each adapter.
        alpha: an adapter's product counts alpha / rank times.
        dora: whether each output's weights have a length of their own.
        layers: ``all``, or ``attention``: what makes its queries, keys and values.

    Raises:
        ConfigError: attention is asked for, and the backbone has none.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        finetune: Mapping[str, Any],
        rank: int,
        alpha: float,
        dora: bool = False,
        layers: str = "all",
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.finetune = finetune
        self.base = [*self.encoder.parameters()]
        attention = adapters.projections(self.encoder)
        if layers == "attention" and (left := adapters.missed(self.encoder, attention)):
            raise ConfigError(
                [
                    "method.layers=attention: it is not known which weights of this backbone make "
                    f"queries, keys and values ({left[0]}). method.layers=all takes every layer."
                ]
            )
        chosen = [weight for _, weight in attention]
        found = adapters.layers(self.encoder) if layers == "all" else chosen
        if not found:
            has_no = "attention" if layers == "attention" else "linear or convolutional layers"
            raise ConfigError(
                [
                    f"method.layers={layers}: this backbone has no {has_no}. "
                    + (
                        "method.layers=all takes every linear and convolutional layer."
                        if layers == "attention"
                        else "method=linear_probe trains a head alone."
                    )
                ]
            )
        kind = adapters.Decomposed if dora else adapters.LowRank
        self.adapters = self.fresh(
            "adapters",
            lambda: [w.adapt(kind(w.value, rank, alpha, w.parts)) for w in found],
        )
        self.adapted = found

    def start(self) -> None:
        super().start()
        for weight, adapter in zip(self.adapted, self.adapters, strict=True):
            adapter.begin(weight.value)

    def phases(self) -> list[Phase]:
        return adapter_phases(self, self.finetune, self.base, self.adapters)
