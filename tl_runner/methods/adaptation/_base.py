"""What adaptation methods have in common: source only first, then a phase on both domains. No
method by itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._batch_norm import norms_of, target_from_source
from tl_runner.methods.adaptation.source_only import SourceOnly
from tl_runner.methods.base import Setting, cross_entropy
from tl_runner.methods.batch import Batch, Losses, Metrics, SplitPasses
from tl_runner.methods.phases import Hooks, Outputs, Phase, Update

Layers = dict[str, Tensor]  # activations of one domain: features (B, d) and logits (B, K)


@dataclass
class Activations:
    """What a batch comes to: the :data:`Layers` of both domains, and the cross-entropy of
    everything that has a label."""

    source: Layers
    target: Layers
    cross_entropy: Tensor


class Adaptation(SourceOnly):
    """Phase ``pretrain`` is source only's, to the bit; a subclass adds ``adapt``.

    Args:
        pretrain: lengths and optimiser of the source classifier; 0 epochs leave the phase out.
        adapt: lengths and optimisers of the second phase.
    """

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting, pretrain=pretrain)
        self.adapt = adapt

    def eval_layers(self, encoder: nn.Module) -> list[nn.Module]:
        """The layers of an adapting encoder whose statistics stay the source's: all batch norms
        under ``bn=frozen``."""
        return [*norms_of(encoder)] if self.setting.bn == "frozen" else []

    def with_pretraining(
        self, encoder: nn.Module, updates: Sequence[Update], reads: Mapping[str, str], **fields: Any
    ) -> list[Phase]:
        """``pretrain``, and ``adapt`` of these updates, which adapt ``encoder``."""
        adapt = Phase.of(
            self.adapt,
            name="adapt",
            reads=reads,
            updates=updates,
            eval_layers=self.eval_layers(encoder),
            **fields,
        )
        return [*(super().phases() if self.pretrain["epochs"] else []), adapt]


class SharedEncoder(Adaptation):
    """One encoder and head for both domains: ``adapt`` trains them in a single update on
    :meth:`step`.

    How batch norm sees the two is ``backbone.bn``: ``concat`` normalises both together, in one
    forward pass; ``separate`` each batch by itself, the running statistics following both;
    ``domain_specific`` keeps statistics, scale and shift for either; ``frozen`` keeps the source's
    statistics.
    """

    couples = False  # whether step's losses relate samples of a batch to each other

    @abstractmethod
    def step(self, batch: Batch, progress: float) -> Losses | tuple[Losses, Metrics]:
        """What ``adapt`` minimises; batch.source.x, .y and batch.target.x, without labels."""

    def trained(self) -> list[nn.Module]:
        """The networks that ``adapt`` trains."""
        return [self.encoder, self.head]

    def updates(self) -> list[Update]:
        """Of the phase ``adapt``."""
        return [
            Update(
                "model", self.trained(), self.adapt["optimizer"], self.step, couples=self.couples
            )
        ]

    def phases(self) -> list[Phase]:
        return self.with_pretraining(
            self.encoder,
            self.updates(),
            self.reads(source="source_train", target="target_train"),
            outputs=Outputs(
                lambda x: self.classify(self.features(x, "target")),
                lambda x: self.classify(self.features(x, "source")),
                embed={"source": self.features, "target": lambda x: self.features(x, "target")},
            ),
            hooks=Hooks(begin=lambda: target_from_source(self.encoder)),
        )

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, d) to logits (B, K), as ``adapt`` predicts."""
        return self.head(features)

    def activations(self, batch: Batch) -> Activations:
        """Features and logits of both domains of a batch, and the classification loss."""
        features = self.encode(batch)
        logits = {domain: self.head(f) for domain, f in features.items()}
        source, target = (
            {"features": features[d], "logits": logits[d]} for d in ("source", "target")
        )
        return Activations(
            source=source, target=target, cross_entropy=self.cross_entropy(logits, batch)
        )

    def encode(self, batch: Batch, *wanted: str) -> dict[str, Tensor]:
        """Features (B, d) by domain: of source, target and labelled target images, or of those
        among them that are wanted.

        Under ``bn=concat`` all of a batch goes through the encoder, since its statistics are those
        of all.
        """
        present = [d for d in ("source", "target", "labelled") if hasattr(batch, d)]
        fed = [d for d in present if d in wanted] if wanted else present
        if not norms_of(self.encoder):
            passes = [fed]
        elif self.setting.bn == "concat":
            passes = [present]
        else:
            passes = [[d for d in fed if d == "source"], [d for d in fed if d != "source"]]
        found: dict[str, Tensor] = {}
        for domains in filter(None, passes):
            images = [getattr(batch, d).x for d in domains]
            features = self.features(
                torch.cat(images) if len(images) > 1 else images[0], domains[0]
            )
            found.update(zip(domains, features.split([len(x) for x in images]), strict=True))
        return {d: found[d] for d in fed}

    def cross_entropy(self, logits: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Of logits (B, K) by domain: the source's and those of labelled target images, each image
        weighing the same."""
        domains = [d for d in ("source", "labelled") if d in logits]
        found = torch.cat([logits[d] for d in domains]) if len(domains) > 1 else logits["source"]
        return cross_entropy(
            found, [getattr(batch, d) for d in domains], self.adapt["label_smoothing"]
        )


class TargetEncoder(Adaptation):
    """A second encoder for the target, which starts as a copy of the source's; encoder and head
    stay as ``pretrain`` left them."""

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting, pretrain=pretrain, adapt=adapt)
        self.target_encoder = self.fresh("backbone", setting.make_backbone)

    def start(self) -> None:
        """Once, as ``adapt`` begins."""
        self.target_encoder.load_state_dict(self.encoder.state_dict())

    def adapting(
        self,
        updates: Sequence[Update],
        reads: Mapping[str, str],
        *,
        source_predict: Callable[[Tensor], Tensor] | None = None,
        each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None = None,
        **fields: Any,
    ) -> list[Phase]:
        """``pretrain``, and ``adapt`` of these updates."""
        return self.with_pretraining(
            self.target_encoder,
            updates,
            reads,
            outputs=Outputs(
                lambda x: self.head(self.target_encoder(x)),
                source_predict,
                embed={"source": self.encoder, "target": self.target_encoder},
            ),
            hooks=Hooks(begin=self.start, each_epoch=each_epoch),
            **fields,
        )

    def labelled_cross_entropy(self, batch: Batch) -> Losses:
        """Of the labelled target images under the target encoder; nothing where the run has
        none."""
        if not self.setting.labelled:
            return {}
        logits = self.head(self.target_encoder(batch.labelled.x))
        return {
            "cross_entropy": cross_entropy(logits, [batch.labelled], self.adapt["label_smoothing"])
        }


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between."""
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])
