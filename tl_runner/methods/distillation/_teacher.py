"""Teachers: classifiers that are never trained by the student, and their outputs in a step."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tl_runner.backbones._base import Backbone
    from tl_runner.methods.batch import Batch, SplitPasses

    Query = Callable[[Tensor], Mapping[str, Tensor]]  # images (B, C, H, W) to outputs (B, ...)

PREFIX = "teacher/"  # of the names of precomputed outputs
MAX_BYTES = 2**31  # of precomputed outputs; more are computed anew in every step


class Network(nn.Module):
    """A backbone and its head."""

    def __init__(self, encoder: Backbone, head: nn.Linear):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.head(self.encoder(x))


class Teacher(nn.Module):
    """A classifier whose outputs a student learns from.

    Args:
        network: holds its weights.
        encoder: the backbone in it that images go through.
        predict: images (B, C, H, W) to logits (B, K); None: the network itself.
        record: of one that was given, what it is, as JSON.
        warnings: what the user should know of it.
    """

    def __init__(
        self,
        network: nn.Module,
        encoder: Backbone,
        predict: Callable[[Tensor], Tensor] | None = None,
        record: Mapping[str, Any] | None = None,
        warnings: Sequence[str] = (),
    ):
        super().__init__()
        self.record, self.warnings = dict(record or {}), warnings
        self.network, self.predict = network, predict or network
        self._encoder = [encoder]  # not a submodule a second time

    @property
    def encoder(self) -> Backbone:
        return self._encoder[0]

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.predict(x)


def teacher_outputs(batch: Batch, query: Query) -> Mapping[str, Tensor]:
    """Outputs of the teachers for ``batch.target``, (B, ...) each: the precomputed ones, if any.

    Without gradients.
    """
    precomputed = {
        name.removeprefix(PREFIX): rows[batch.target.index]
        for name, rows in batch.precomputed.items()
        if name.startswith(PREFIX)
    }
    if precomputed:
        return precomputed
    with torch.no_grad():
        return query(batch.target.x)


def precompute_outputs(
    query: Query, teachers: nn.Module, shape: Sequence[int]
) -> Callable[[SplitPasses], dict[str, Tensor]]:
    """A hook that computes the teachers' outputs for all images that a phase reads as ``target``.

    It computes none where they take more than ``MAX_BYTES``.

    Args:
        query: images to the outputs, through ``teachers``.
        teachers: say which device they are on.
        shape: (C, H, W) of the images.
    """

    @torch.no_grad()
    def precompute(passes: SplitPasses) -> dict[str, Tensor]:
        two_images = torch.zeros(2, *shape, device=next(teachers.parameters()).device)
        shapes = {name: out.shape[1:] for name, out in query(two_images).items()}
        widths = [prod(shape) for shape in shapes.values()]
        if 4 * sum(widths) * passes.size("target") > MAX_BYTES:
            return {}
        outputs = passes(
            lambda x: torch.cat([out.flatten(1) for out in query(x).values()], 1), "target"
        )
        columns = zip(shapes.items(), outputs.split(widths, 1), strict=True)
        return {
            f"{PREFIX}{name}": rows.unflatten(1, shape) if len(shape) != 1 else rows
            for (name, shape), rows in columns
        }

    return precompute
