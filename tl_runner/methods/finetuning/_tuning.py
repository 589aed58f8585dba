"""Fine-tuning as a part of methods: which blocks learn, at which rates, and how near the start.

Regularisers towards the start: Li, Grandvalet & Davoine, "Explicit Inductive Bias for Transfer
Learning with Convolutional Networks", ICML 2018 (L2-SP, L1-SP); and on the features: Chen et al.,
"Catastrophic Forgetting Meets Negative Transfer", NeurIPS 2019 (BSS). Rates by layer and gradual
unfreezing: Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL
2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.errors import ConfigError, nearest, one_of
from tl_runner.losses.regularisers import batch_spectral_shrinkage, l1_sp, l2_sp
from tl_runner.methods.phases import Group, Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.finetuning._base import ModelTransfer
    from tl_runner.methods.phases import Phase

TOWARDS_START = {"l2_sp": l2_sp, "l1_sp": l1_sp}
REGULARISERS = (*TOWARDS_START, "bss")


class Tuning:
    """Fine-tuning of a method's encoder and head on labelled target images.

    Args:
        method: whose networks are tuned; with ``l2_sp`` and ``l1_sp`` it gets one more, ``origin``.
        finetune: lengths and optimiser.
        freeze: the first so many blocks of the backbone, the names of some, or ``all``: they keep
            weights and statistics.
        layer_decay: a block's learning rate over that of the block after it; 1 is the same for all.
        head_rate: the head's learning rate over the last block's.
        gradual: unfreeze block by block, the head first; the phase's epochs are divided up.
        regulariser: None, ``l2_sp``, ``l1_sp`` or ``bss``.
        alpha: its weight.
        beta: of the plain L2 penalty of a new head (beta / 2 ||w||^2), with ``l2_sp`` and
            ``l1_sp``.

    Raises:
        ConfigError: no such block or regulariser; weight decay beside ``l2_sp`` or ``l1_sp``, which
            would count twice.
    """

    def __init__(
        self,
        method: ModelTransfer,
        *,
        finetune: Mapping[str, Any],
        freeze: int | str | Sequence[str],
        layer_decay: float,
        head_rate: float,
        gradual: bool,
        regulariser: str | None = None,
        alpha: float = 0.0,
        beta: float = 0.0,
    ):
        self.method, self.options = method, finetune
        self.blocks = method.encoder.blocks()
        self.frozen = frozen(self.blocks, freeze)
        self.layer_decay, self.head_rate, self.gradual = layer_decay, head_rate, gradual
        self.regulariser, self.alpha, self.beta = regulariser, alpha, beta
        if regulariser is not None:
            one_of("method.regulariser", regulariser, REGULARISERS)
        if regulariser in TOWARDS_START:
            if finetune["optimizer"]["weight_decay"]:
                raise ConfigError(
                    [
                        "method.finetune.optimizer.weight_decay beside "
                        f"method.regulariser={regulariser}, which is one itself: set it to 0."
                    ]
                )
            method.add_module("origin", method.fresh("backbone", method.setting.make_backbone))

    def keep_start(self) -> None:
        """Note where the encoder starts; called once, as the first phase on the target begins."""
        if self.regulariser in TOWARDS_START:
            origin = self.method.get_submodule("origin")
            origin.load_state_dict(self.method.encoder.state_dict())

    def penalties(self, features: Tensor) -> Losses:
        """Weighted losses of the regulariser, empty without one.

        Args:
            features: of the batch, (B, d).
        """
        if self.regulariser is None:
            return {}
        if self.regulariser == "bss":
            return {"bss": self.alpha * batch_spectral_shrinkage(features)}
        encoder, head, origin = (
            self.method.encoder,
            self.method.head,
            self.method.get_submodule("origin"),
        )
        pairs = [
            (p, q)
            for p, q in zip(encoder.parameters(), origin.parameters(), strict=True)
            if p.requires_grad
        ]
        losses = {}
        if pairs:
            distance = TOWARDS_START[self.regulariser](*zip(*pairs, strict=True))
            losses[self.regulariser] = self.alpha * distance
        if self.method.new_head:
            losses["l2"] = self.beta / 2 * (head.weight.square().sum() + head.bias.square().sum())
        return losses

    # ---- phases

    def phases(
        self,
        step: Callable[[Batch, float], Losses],
        each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None = None,
    ) -> list[Phase]:
        """``finetune``, or with gradual unfreezing a phase for every stage.

        Args:
            step: (batch, progress) to losses.
            each_epoch: a hook of all of them.
        """
        stages = [self.frozen]
        if self.gradual:
            trained = [name for name in self.blocks if name not in self.frozen]
            stages = [[*self.frozen, *trained[: len(trained) - n]] for n in range(len(trained) + 1)]
        names = ["finetune"] if len(stages) == 1 else [f"finetune_{n}" for n in range(len(stages))]
        lengths = divided(self.options["epochs"], len(stages))
        return [
            self.phase(name, {**self.options, "epochs": epochs}, step, frozen, each_epoch)
            for name, epochs, frozen in zip(names, lengths, stages, strict=True)
            if epochs
        ]

    def phase(
        self,
        name: str,
        options: Mapping[str, Any],
        step: Callable[[Batch, float], Losses],
        frozen: Sequence[str],
        each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None,
    ) -> Phase:
        """A phase that trains the head and the blocks that are not ``frozen``."""
        couples = self.regulariser == "bss"
        update = self.method.classifier_update(options, step, self.groups(frozen), couples)
        return self.method.on_target(
            name,
            options,
            update,
            hooks=Hooks(each_epoch=each_epoch),
            eval_layers=[
                m for block in frozen for unit in self.blocks[block] for m in unit.modules()
            ],
        )

    def groups(self, frozen: Sequence[str]) -> list[Group]:
        """Every parameter that is trained, once: the head's, and each block's at its own rate."""
        found, rate = [Group([*self.method.head.parameters()], self.head_rate)], 1.0
        for name, units in reversed(self.blocks.items()):
            parameters = [p for unit in units for p in unit.parameters()]
            if name not in frozen and parameters:
                found.append(Group(parameters, rate))
            rate *= self.layer_decay
        return found


def frozen(blocks: Mapping[str, Any], freeze: int | str | Sequence[str]) -> list[str]:
    """The names of the frozen blocks.

    Raises:
        ConfigError: there is no such block.
    """
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
