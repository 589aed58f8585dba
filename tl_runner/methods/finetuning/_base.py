"""What methods that transfer a network have in common: trained on the source first, then on the
target's labels. No method by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.errors import ConfigError
from tl_runner.methods.base import Classifier, Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses, SplitPasses
from tl_runner.methods.phases import Group, Hooks, Outputs, Phase, Sampling, Update


class ModelTransfer(Classifier):
    """Phase ``pretrain`` on the source, unless its epochs are 0; a subclass adds phases on the
    labelled target images.

    The source's classes may be others than the target's: each has a head of its own on the one
    backbone.

    Args:
        pretrain: lengths and optimiser.
        new_head: the target's head starts afresh; null: where the classes are others than the
            source's. Else it starts as the source's.
    """

    other_classes = True

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], new_head: bool | None):
        super().__init__(setting)
        self.pretrain = pretrain
        classes = setting.source_classes or setting.num_classes
        self.source_head = self.fresh("head", lambda: nn.Linear(self.encoder.out_features, classes))
        self.new_head = setting.source_classes is not None if new_head is None else new_head
        if not self.new_head and setting.source_classes is not None:
            raise ConfigError(
                [
                    "method.new_head=false: the target has other classes than the source, so the "
                    "head cannot be kept."
                ]
            )
        if self.new_head:
            self.head = self.fresh(
                "target_head", lambda: nn.Linear(self.encoder.out_features, setting.num_classes)
            )

    def start(self) -> None:
        """Once, as the first phase on the target begins."""
        if not self.new_head:
            self.head.load_state_dict(self.source_head.state_dict())

    def after_pretraining(self, *phases: Phase) -> list[Phase]:
        """``pretrain`` (source only's, where the classes are the same), and these."""
        phases[0].hooks.begin = self.start
        if not self.pretrain["epochs"]:
            return [*phases]
        pretrain = self.supervised(
            "pretrain", self.pretrain, {"source": "source_train"}, self.source_head
        )
        if self.setting.source_classes is not None:
            pretrain.outputs.domains = ["source"]
        return [pretrain, *phases]

    def on_target(
        self,
        name: str,
        options: Mapping[str, Any],
        step: Callable,
        groups: list[Group],
        *,
        precompute: Callable[[SplitPasses], dict[str, Tensor]] | None = None,
        each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None = None,
        **fields: Any,
    ) -> Phase:
        """A phase on the labelled target images whose one update trains ``groups`` of encoder and
        head by ``step``."""
        return Phase.of(
            options,
            name=name,
            reads={"target": "target_labelled"},
            updates=[
                Update(
                    "classifier",
                    [self.encoder, self.head],
                    options["optimizer"],
                    step,
                    groups=groups,
                )
            ],
            outputs=Outputs(
                self,
                self.classify_source,
                embed={"source": self.features, "target": self.features},
                domains=["source", "target"] if self.pretrain["epochs"] else ["target"],
            ),
            hooks=Hooks(precompute=precompute, each_epoch=each_epoch),
            **fields,
        )

    def probe(
        self,
        name: str,
        options: Mapping[str, Any],
        select: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Phase:
        """A phase that trains the head alone, on features that are computed once, of the images as
        they are.

        ``select``: features (N, d) and labels (N,) to which features count, bool (d,); the head's
        weights of the others are 0.
        """

        def extract(passes: SplitPasses) -> dict[str, Tensor]:
            features = passes(self.features, "target")
            if select:
                kept = select(features, passes.labels("target"))
                features = features * kept
                with torch.no_grad():
                    self.head.weight.mul_(kept)
            return {"features": features}

        def step(batch: Batch, progress: float) -> Losses:
            logits = self.head(batch.precomputed["features"][batch.target.index])
            return {
                "cross_entropy": cross_entropy(logits, [batch.target], options["label_smoothing"])
            }

        groups = [Group([*self.head.parameters()])]
        return self.on_target(
            name,
            options,
            step,
            groups,
            precompute=extract,
            sampling=Sampling.of(options, augment=False),
            eval_layers=[*self.encoder.modules()],
        )

    def warming_up(self, options: Mapping[str, Any]) -> list[Phase]:
        """A phase ``warm_up`` that trains the new head alone, all else at rest; none where it has
        no epochs."""

        def step(batch: Batch, progress: float) -> Losses:
            return {
                "cross_entropy": cross_entropy(
                    self(batch.target.x), [batch.target], options["label_smoothing"]
                )
            }

        groups = [Group([*self.head.parameters()])]
        return (
            [
                self.on_target(
                    "warm_up", options, step, groups, eval_layers=[*self.encoder.modules()]
                )
            ]
            if options["epochs"]
            else []
        )

    def classify_source(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the source head's logits, on the features as they are now."""
        return self.source_head(self.features(x))
