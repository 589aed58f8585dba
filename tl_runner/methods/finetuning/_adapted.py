"""Phases of transfer by adapters: the network's weights stay, a few numbers beside them learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.base import cross_entropy
from tl_runner.methods.phases import Group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from tl_runner.methods.batch import Batch, Losses
    from tl_runner.methods.finetuning._base import ModelTransfer
    from tl_runner.methods.phases import Phase


def adapter_phases(
    method: ModelTransfer,
    finetune: Mapping[str, Any],
    base: Sequence[nn.Parameter],
    adapters: Sequence[nn.Module],
) -> list[Phase]:
    """``pretrain`` on the source, unless its epochs are 0, and ``finetune``: adapters and head.

    Args:
        method: whose encoder has the adapters.
        finetune: lengths and optimiser.
        base: the encoder's own parameters, which only ``pretrain`` trains.
        adapters: what ``finetune`` trains beside the head, by cross-entropy.
    """

    def step(batch: Batch, progress: float) -> Losses:
        logits = method(batch.target.x)
        return {"cross_entropy": cross_entropy(logits, [batch.target], finetune["label_smoothing"])}

    parameters = [p for adapter in adapters for p in adapter.parameters()]
    groups = [Group([*method.head.parameters()]), Group(parameters)]
    update = method.classifier_update(finetune, step, groups)
    tuned = method.on_target("finetune", finetune, update, eval_layers=[*method.encoder.modules()])
    phases = method.after_pretraining(tuned)
    if phases[0].name == "pretrain":  # of the network itself
        phases[0].updates[0].groups = [Group([*base, *method.source_head.parameters()])]
    return phases
