"""Prompt tuning: the network stays as it is; tokens before its own are trained, and the head.

Lester, Al-Rfou & Constant, "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021,
of texts; Jia, Tang, Chen, Cardie, Belongie, Hariharan & Lim, "Visual Prompt Tuning", ECCV 2022, of
pictures, section 3.2: shallow, eq. 4-6, has tokens before the first layer; deep, eq. 7-8, new ones
before every layer. They have no positions, so those of the network's own tokens stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones._prompts import Prompts, prompt
from tl_runner.methods.finetuning._adapted import adapter_phases
from tl_runner.methods.finetuning._base import ModelTransfer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Prompt(ModelTransfer):
    """Learned tokens of a transformer.

    Args:
        finetune: lengths and optimiser of the phase that trains them and the head.
        tokens: how many.
        deep: every layer has its own.

    Raises:
        ConfigError: the backbone is no transformer of tokens.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        finetune: Mapping[str, Any],
        tokens: int,
        deep: bool,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.finetune = finetune
        self.base = [*self.encoder.parameters()]
        prompts: Prompts = self.fresh("adapters", lambda: prompt(self.encoder, tokens, deep))
        self.adapters = [prompts]

    def start(self) -> None:
        super().start()
        for prompts in self.adapters:
            prompts.begin()

    def phases(self) -> list[Phase]:
        return adapter_phases(self, self.finetune, self.base, self.adapters)
