"""The student in a step: its outputs for a batch, and its loss on the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tl_runner.methods.base import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from tl_runner.methods.batch import Batch

    # images (B, C, H, W) to logits (B, K), features (B, d) and outputs of some layers by path
    Forward = Callable[[Tensor], tuple[Tensor, Tensor, Mapping[str, Tensor]]]


@dataclass(frozen=True)
class StudentOutputs:
    """Outputs of the student for a batch.

    Attributes:
        logits: for ``batch.target``, (B, K).
        features: for the same, the head's input (B, d).
        layers: for the same, outputs of the compared layers, (B, ...) by path.
        logits_by_domain: for every domain of the batch, the target among them.
    """

    logits: Tensor
    features: Tensor
    layers: Mapping[str, Tensor]
    logits_by_domain: Mapping[str, Tensor]


def student_outputs(forward: Forward, batch: Batch, together: bool) -> StudentOutputs:
    """Forward passes of all domains of a batch.

    Args:
        forward: the student.
        batch: ``target`` is the last of its domains.
        together: all images go through the network, and so through its batch norm, in one pass;
            else those of each domain by themselves.
    """
    images = {name: part.x for name, part in batch.samples().items()}
    if not together or len(images) == 1:
        by_domain = {name: forward(x)[0] for name, x in images.items() if name != "target"}
        logits, features, layers = forward(images["target"])
        return StudentOutputs(logits, features, layers, by_domain | {"target": logits})
    logits, features, layers = forward(torch.cat([*images.values()]))
    by_domain = dict(zip(images, logits.split([len(x) for x in images.values()]), strict=True))
    n = len(images["target"])
    last = {path: out[-n:] for path, out in layers.items()}
    return StudentOutputs(logits[-n:], features[-n:], last, by_domain)


def label_loss(
    batch: Batch, logits_by_domain: Mapping[str, Tensor], smoothing: float
) -> Tensor | None:
    """Mean cross-entropy over all labelled images of a batch; None where it has none.

    Args:
        logits_by_domain: of every domain of the batch, (B, K).
        smoothing: of the labels, in [0, 1).
    """
    labelled = {name: part for name, part in batch.samples().items() if part.y is not None}
    if not labelled:
        return None
    logits = [logits_by_domain[name] for name in labelled]
    return cross_entropy(
        torch.cat(logits) if len(logits) > 1 else logits[0], [*labelled.values()], smoothing
    )
