"""Transfer of a network: trained on the source, then on labelled images of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._batch_norm import frozen_norms
from tl_runner.errors import ConfigError
from tl_runner.methods.base import Method, cross_entropy, encode, overridden, supervised_phase
from tl_runner.methods.phases import Group, Hooks, Outputs, Phase, Sampling, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.setting import Setting


LR, WIDTH = 0.01, 128  # of a head alone on up to so many features


class ModelTransfer(Method):
    """Phase ``pretrain`` on the source, unless its epochs are 0; a subclass adds phases on the
    labelled target images.

    The source's classes may be others than the target's: each has a head of its own on the one
    backbone.

    Args:
        pretrain: lengths and optimiser.
        new_head: the target's head starts afresh; null: where the classes are others than the
            source's. Else it starts as the source's.

    Raises:
        ConfigError: the head is to be kept, and the target has other classes than the source.
    """

    other_classes = True

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], new_head: bool | None):
        super().__init__(setting)
        self.encoder, self.head = self.encoder_and_head()
        self.pretrain = pretrain
        width, classes = self.encoder.out_features, setting.source_classes or setting.num_classes
        self.source_head = self.fresh("head", lambda: nn.Linear(width, classes))
        self.new_head = setting.source_classes is not None if new_head is None else new_head
        if not self.new_head and setting.source_classes is not None:
            raise ConfigError(
                [
                    "method.new_head=false: the target has other classes than the source, so the "
                    "head cannot be kept."
                ]
            )
        if self.new_head:
            self.head = self.fresh("target_head", lambda: nn.Linear(width, setting.num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the target head's logits (B, K)."""
        return self.head(self.features(x))

    def features(self, x: Tensor, domain: str = "source") -> Tensor:
        """Images (B, C, H, W) to features (B, d), under the batch norm of ``domain``."""
        return encode(self.encoder, x, domain)

    def classify_source(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the source head's logits, on the features as they are now."""
        return self.source_head(self.features(x))

    def start(self) -> None:
        """Start the target's head; called once, as the first phase on the target begins."""
        if not self.new_head:
            self.head.load_state_dict(self.source_head.state_dict())

    # ---- phases

    def after_pretraining(self, *phases: Phase) -> list[Phase]:
        """``pretrain``, which is source_only's where the classes are the same, and these phases."""
        phases[0].hooks.begin = self.start
        if not self.pretrain["epochs"]:
            return [*phases]
        pretrain = supervised_phase(
            "pretrain",
            self.pretrain,
            {"source": "source_train"},
            self.encoder,
            self.source_head,
            self.features,
            shared=not overridden(self, ModelTransfer, "forward", "features"),
        )
        if self.setting.source_classes is not None:
            pretrain.outputs.domains = ["source"]
        return [pretrain, *phases]

    def on_target(
        self,
        name: str,
        options: Mapping[str, Any],
        update: Update,
        *,
        reads: Mapping[str, str] | None = None,
        on_fixed: Callable[[Tensor], Tensor] | None = None,
        **fields: Any,
    ) -> Phase:
        """A phase on the labelled target images.

        Args:
            name: of the phase.
            options: its section of the config.
            update: its one update.
            reads: the batch's domains and the split that each comes from, if more than those.
            on_fixed: of :class:`~tl_runner.methods.phases.Outputs`.
            fields: of the phase.
        """
        still = [*fields.pop("eval_layers", ()), *frozen_norms(self.encoder, self.setting.bn)]
        return Phase.of(
            options,
            name=name,
            eval_layers=list(dict.fromkeys(still)),
            reads=reads or {"target": "target_labelled"},
            updates=[update],
            outputs=Outputs(
                self,
                self.classify_source,
                embed={"source": self.features, "target": self.features},
                on_fixed=on_fixed,
                domains=["source", "target"] if self.pretrain["epochs"] else ["target"],
            ),
            **fields,
        )

    def classifier_update(
        self,
        options: Mapping[str, Any],
        step: Callable[[Batch, float], Losses],
        groups: Sequence[Group],
        couples: bool = False,
    ) -> Update:
        """An update of encoder and head.

        Args:
            options: section of the config that has the optimiser.
            step: (batch, progress) to losses.
            groups: the parameters that are trained.
            couples: the losses relate samples of a batch to each other.
        """
        networks, optimizer = [self.encoder, self.head], options["optimizer"]
        return Update("classifier", networks, optimizer, step, couples=couples, groups=groups)

    def probe(
        self,
        name: str,
        options: Mapping[str, Any],
        select: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Phase:
        """A phase that trains the head alone, on features of the images as they are, computed once,
        or of those views of them that are kept.

        Args:
            name: of the phase.
            options: its section of the config.
            select: features (N, d) and labels (N,) to which features count, bool (d,); the others
                are 0, and so are the head's weights of them. None: all count.
        """

        def extract(passes: SplitPasses) -> dict[str, Tensor]:
            features = passes(self.features, "target")
            kept = torch.ones(0)
            if select:
                kept = select(features, passes.labels("target"))
                features = features * kept
                with torch.no_grad():
                    self.head.weight.mul_(kept)
            return {"features": features, "kept": kept}

        views = self.setting.kept_views

        def step(batch: Batch, progress: float) -> Losses:
            if views:
                with torch.no_grad():
                    features = self.features(batch.target.x)
                logits = self.head(features * batch.precomputed["kept"] if select else features)
            else:
                logits = self.head(batch.precomputed["features"][batch.target.index])
            return {
                "cross_entropy": cross_entropy(logits, [batch.target], options["label_smoothing"])
            }

        options = {**options, "optimizer": {**options["optimizer"], "lr": self.rate(options)}}
        return self.on_target(
            name,
            options,
            self.classifier_update(options, step, [Group([*self.head.parameters()])]),
            hooks=Hooks(precompute=extract),
            sampling=Sampling.of(options, augment=views),
            eval_layers=[*self.encoder.modules()],
            on_fixed=None if overridden(self, ModelTransfer, "forward", "features") else self.head,
        )

    def rate(self, options: Mapping[str, Any]) -> float:
        """Learning rate of a phase of the head alone: its own, or one for the features' number.

        Adam moves every weight by the rate, so with the number of features a step moves the logits
        further. Of 128 and 1,280 features the rates that were best on photographs are met.
        """
        lr: float | None = options["optimizer"]["lr"]
        width = self.encoder.out_features
        return LR * min(1.0, (WIDTH / width) ** 1.5) if lr is None else lr

    def warming_up(self, options: Mapping[str, Any]) -> list[Phase]:
        """A phase ``warm_up`` that trains the target's head alone; none where it has no epochs."""
        if not options["epochs"]:
            return []

        def step(batch: Batch, progress: float) -> Losses:
            logits = self(batch.target.x)
            return {
                "cross_entropy": cross_entropy(logits, [batch.target], options["label_smoothing"])
            }

        update = self.classifier_update(options, step, [Group([*self.head.parameters()])])
        return [self.on_target("warm_up", options, update, eval_layers=[*self.encoder.modules()])]

    def joint_update(
        self, options: Mapping[str, Any], step: Callable[[Batch, float], Losses]
    ) -> Update:
        """An update of the encoder and both heads, all parameters at one rate."""
        networks = [self.encoder, self.head, self.source_head]
        everything = [Group([p for network in networks for p in network.parameters()])]
        return Update("classifier", networks, options["optimizer"], step, groups=everything)
