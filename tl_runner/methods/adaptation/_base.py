"""Adaptation with one encoder for both domains, and what all adaptation methods have in common.

Each begins with phase ``pretrain``, which is source_only's to the bit; ``adapt`` follows, on images
of both domains.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tl_runner.backbones._batch_norm import frozen_norms, norms_of, target_from_source
from tl_runner.methods.base import Method, cross_entropy, encode, overridden, supervised_phase
from tl_runner.methods.phases import Hooks, Outputs, Phase, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tl_runner.methods.adaptation._target_encoder import TargetEncoder
    from tl_runner.methods.batch import Batch, Losses, Metrics
    from tl_runner.methods.setting import Setting

Layers = dict[str, Tensor]  # activations of one domain: features (B, d) and logits (B, K)
LAYERS = ("features", "logits")


@dataclass
class Activations:
    """Activations of both domains of a batch, and the cross-entropy of all that has a label."""

    source: Layers
    target: Layers
    cross_entropy: Tensor


class SharedEncoder(Method):
    """One encoder and head for both domains: ``adapt`` trains them by :meth:`step`.

    How batch norm sees the two is ``backbone.bn``: ``concat`` normalises both together, in one
    forward pass; ``separate`` each batch by itself, the running statistics following both;
    ``domain_specific`` keeps statistics, scale and shift for either; ``frozen`` keeps the source's
    statistics.

    Args:
        pretrain: lengths and optimiser of the source classifier; 0 epochs leave the phase out.
        adapt: lengths and optimisers of the second phase.
    """

    couples = False  # whether step's losses relate samples of a batch to each other

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting)
        self.encoder, self.head = self.encoder_and_head()
        self.pretrain, self.adapt = pretrain, adapt

    # ---- a method's own

    @abstractmethod
    def step(self, batch: Batch, progress: float) -> Losses | tuple[Losses, Metrics]:
        """Losses that ``adapt`` minimises.

        Args:
            batch: ``source.x`` and ``.y``; ``target.x``, without labels; where the run has labelled
                target images, ``labelled.x`` and ``.y``.
            progress: of the phase, in [0, 1).
        """

    def trained(self) -> list[nn.Module]:
        """The networks that ``adapt`` trains."""
        return [self.encoder, self.head]

    def updates(self) -> list[Update]:
        """The updates of ``adapt``: one, on :meth:`step`."""
        optimizer = self.adapt["optimizer"]
        return [Update("model", self.trained(), optimizer, self.step, couples=self.couples)]

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, d) to logits (B, K), as ``adapt`` predicts."""
        return self.head(features)

    # ---- for steps

    def activations(self, batch: Batch) -> Activations:
        """Features and logits of both domains of a batch, and the classification loss."""
        features = self.encode(batch)
        logits = {domain: self.head(f) for domain, f in features.items()}
        source, target = (
            {"features": features[d], "logits": logits[d]} for d in ("source", "target")
        )
        return Activations(source, target, self.cross_entropy(logits, batch))

    def encode(self, batch: Batch, *wanted: str) -> dict[str, Tensor]:
        """Features (B, d) of a batch by domain: ``source``, ``target`` and ``labelled``.

        Under ``bn=concat`` all of a batch goes through the encoder, since its statistics are those
        of all.

        Args:
            wanted: the domains among these, by default all that the batch has.
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
        """Mean cross-entropy over source images and labelled target images.

        Args:
            logits: (B, K) by domain; ``target``'s are left out.
            batch: has the labels.
        """
        domains = [d for d in ("source", "labelled") if d in logits]
        together = torch.cat([logits[d] for d in domains]) if len(domains) > 1 else logits["source"]
        return cross_entropy(
            together, [getattr(batch, d) for d in domains], self.adapt["label_smoothing"]
        )

    # ---- networks and phases

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.head(self.features(x))

    def features(self, x: Tensor, domain: str = "source") -> Tensor:
        """Images (B, C, H, W) to features (B, d), under the batch norm of ``domain``."""
        return encode(self.encoder, x, domain)

    def phases(self) -> list[Phase]:
        adapt = Phase.of(
            self.adapt,
            name="adapt",
            reads=self.reads(source="source_train", target="target_train"),
            updates=self.updates(),
            outputs=Outputs(
                predict=lambda x: self.classify(self.features(x, "target")),
                source_predict=lambda x: self.classify(self.features(x, "source")),
                embed={"source": self.features, "target": lambda x: self.features(x, "target")},
            ),
            hooks=Hooks(begin=lambda: target_from_source(self.encoder)),
            eval_layers=frozen_norms(self.encoder, self.setting.bn),
        )
        return [*pretraining(self, SharedEncoder), adapt]


def pretraining(
    method: SharedEncoder | TargetEncoder, family: type[SharedEncoder | TargetEncoder]
) -> list[Phase]:
    """Phase ``pretrain``, which is source_only's to the bit; none where it has no epochs.

    Args:
        family: whose ``forward`` and ``features`` the phase is shared for with other runs.
    """
    if not method.pretrain["epochs"]:
        return []
    phase = supervised_phase(
        "pretrain",
        method.pretrain,
        method.reads(source="source_train"),
        method.encoder,
        method.head,
        method.features,
        method,
        shared=not overridden(method, family, "forward", "features"),
    )
    return [phase]


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between."""
    layers = [m for i, o in pairwise(widths) for m in (nn.Linear(i, o), nn.ReLU())]
    return nn.Sequential(*layers[:-1])
