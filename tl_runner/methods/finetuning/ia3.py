"""IA3: the network stays as it is; numbers that scale an attention's keys and values and what the
second layer of each block takes in are trained, and the head.

Liu, Tam, Muqeeth, Mohta, Huang, Bansal & Raffel, "Few-Shot Parameter-Efficient Fine-Tuning is
Better and Cheaper than In-Context Learning", NeurIPS 2022, section 3.3. They are put into the
weights: scaling an output is scaling a row, scaling an input a column.
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


class Ia3(ModelTransfer):
    """Scales of a transformer's keys, values and inner activations.

    Args:
        finetune: lengths and optimiser of the phase that trains them and the head.

    Raises:
        ConfigError: the backbone is no transformer of which it is known where these are.
    """

    def __init__(self, setting: Setting, *, finetune: Mapping[str, Any], **transfer: Any):
        super().__init__(setting, **transfer)
        self.finetune = finetune
        self.base = [*self.encoder.parameters()]
        try:
            self.adapters = adapters.rescale(self.encoder)
        except ValueError as error:
            raise ConfigError(
                [
                    "method=ia3 scales keys, values and inner activations of a transformer, and "
                    f"this backbone {error}. Take backbone=text with BERT or one of its kin, "
                    "backbone=timm backbone.name=vit_..., or method=lora, which takes linear and "
                    "convolutional layers of any network."
                ]
            ) from error

    def phases(self) -> list[Phase]:
        return adapter_phases(self, self.finetune, self.base, self.adapters)
