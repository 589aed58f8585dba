"""Fine-tuning: a network trained on the source goes on with the target's labels, all of it or the
layers that are not frozen.

Regularisers towards the start: Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer
Learning with Convolutional Networks", ICML 2018 (L2-SP, L1-SP); and on the features: Chen et al.,
"Catastrophic Forgetting Meets Negative Transfer", NeurIPS 2019 (BSS). Rates by layer and gradual
unfreezing: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tl_runner.errors import ConfigError, nearest
from tl_runner.losses.regularisers import batch_spectral_shrinkage, l1_sp, l2_sp
from tl_runner.methods.base import Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses
from tl_runner.methods.finetuning._base import ModelTransfer
from tl_runner.methods.phases import Group, Phase

TOWARDS_START = {"l2_sp": l2_sp, "l1_sp": l1_sp}


class FineTune(ModelTransfer):
    """Phases: ``pretrain`` on the source, unless its epochs are 0, and ``finetune`` on the labelled
    target images.

    Args:
        finetune: lengths and optimiser.
        freeze: the first so many blocks of the backbone, the names of some, or ``all``: they keep
            weights and statistics.
        layer_decay: a block's learning rate over that of the block after it; 1 is the same for all.
        head_rate: the head's learning rate over the last block's.
        gradual: unfreeze block by block, the head first; the phase's epochs are divided up.
        regulariser: null, ``l2_sp``, ``l1_sp`` or ``bss``.
        alpha: its weight.
        beta: of the plain L2 penalty of a new head (beta / 2 ||w||^2), with ``l2_sp`` and
            ``l1_sp``.

    Raises:
        ConfigError: no such block; weight decay beside ``l2_sp`` or ``l1_sp``, which would count
            twice.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        finetune: Mapping[str, Any],
        freeze: int | str | Sequence[str],
        layer_decay: float,
        head_rate: float,
        gradual: bool,
        regulariser: str | None,
        alpha: float,
        beta: float,
        **transfer: Any,
    ):
        super().__init__(setting, **transfer)
        self.finetune = finetune
        self.blocks = self.encoder.blocks()
        self.frozen = frozen(self.blocks, freeze)
        self.layer_decay, self.head_rate, self.gradual = layer_decay, head_rate, gradual
        self.regulariser, self.alpha, self.beta = regulariser, alpha, beta
        if regulariser in TOWARDS_START:
            if finetune["optimizer"]["weight_decay"]:
                raise ConfigError(
                    [
                        "method.finetune.optimizer.weight_decay beside "
                        f"method.regulariser={regulariser}, which is one itself: set it to 0."
                    ]
                )
            self.origin = self.fresh("backbone", setting.make_backbone)

    def phases(self) -> list[Phase]:
        return self.after_pretraining(*self.tuned())

    def tuned(self) -> list[Phase]:
        """``finetune``, or with gradual unfreezing a phase for every stage."""
        stages = [self.frozen]
        if self.gradual:
            trained = [name for name in self.blocks if name not in self.frozen]
            stages = [[*self.frozen, *trained[: len(trained) - n]] for n in range(len(trained) + 1)]
        epochs = divided(self.finetune["epochs"], len(stages))
        names = ["finetune"] if len(stages) == 1 else [f"finetune_{n}" for n in range(len(stages))]
        return [self.tune(*stage) for stage in zip(names, epochs, stages, strict=True) if stage[1]]

    def tune(self, name: str, epochs: int, frozen: Sequence[str]) -> Phase:
        """A phase on the labelled target images that trains the head and the blocks that are not
        ``frozen``."""
        at_rest = [m for block in frozen for unit in self.blocks[block] for m in unit.modules()]
        options = {**self.finetune, "epochs": epochs}
        phase = self.on_target(name, options, self.step, self.groups(frozen), eval_layers=at_rest)
        phase.updates[0].couples = self.regulariser == "bss"
        return phase

    def groups(self, frozen: Sequence[str]) -> list[Group]:
        """Every parameter that is trained, once: the head's, and those of each block at its own
        rate."""
        found, rate = [Group([*self.head.parameters()], self.head_rate)], 1.0
        for name, units in reversed(self.blocks.items()):
            parameters = [p for unit in units for p in unit.parameters()]
            if name not in frozen and parameters:
                found.append(Group(parameters, rate))
            rate *= self.layer_decay
        return found

    def start(self) -> None:
        super().start()
        if self.regulariser in TOWARDS_START:
            self.origin.load_state_dict(self.encoder.state_dict())

    def step(self, batch: Batch, progress: float) -> Losses:
        """batch.target.x and .y: labelled target images."""
        features = self.features(batch.target.x)
        losses = {
            "cross_entropy": cross_entropy(
                self.head(features), [batch.target], self.finetune["label_smoothing"]
            )
        }
        if self.regulariser == "bss":
            losses["bss"] = self.alpha * batch_spectral_shrinkage(features)
        elif self.regulariser:
            pairs = [
                (p, q)
                for p, q in zip(self.encoder.parameters(), self.origin.parameters(), strict=True)
                if p.requires_grad
            ]
            if pairs:
                weights, start = zip(*pairs, strict=True)
                losses[self.regulariser] = self.alpha * TOWARDS_START[self.regulariser](
                    weights, start
                )
            if self.new_head:
                losses["l2"] = (
                    self.beta
                    / 2
                    * (self.head.weight.square().sum() + self.head.bias.square().sum())
                )
        return losses


def frozen(blocks: Mapping[str, Any], freeze: int | str | Sequence[str]) -> list[str]:
    """The names of the frozen blocks."""
    names = list(blocks)
    if freeze == "all":
        return names
    if isinstance(freeze, int):
        if freeze > len(names):
            raise ConfigError(
                [
                    f"method.freeze={freeze}: this backbone has {len(names)} blocks: "
                    f"{', '.join(names)}."
                ]
            )
        return names[:freeze]
    wanted = [freeze] if isinstance(freeze, str) else [str(name) for name in freeze]
    found = {w: [name for name in names if name == w or name.startswith(f"{w}.")] for w in wanted}
    if unknown := [w for w, matching in found.items() if not matching]:
        hints = "".join(nearest(w, names) for w in unknown)
        raise ConfigError(
            [
                f"method.freeze: this backbone has no block {', '.join(unknown)}. Its blocks are "
                f"{', '.join(names)}.{hints}"
            ]
        )
    return [name for name in names if any(name in matching for matching in found.values())]


def divided(whole: int, parts: int) -> list[int]:
    """``whole`` in ``parts`` nearly equal whole numbers, the last ones the larger."""
    return [(i + 1) * whole // parts - i * whole // parts for i in range(parts)]
