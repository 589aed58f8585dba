"""A teacher as the methods that distil have it. No method by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from tl_runner.backbones import Backbone


class Network(nn.Module):
    """A backbone and its head."""

    def __init__(self, encoder: Backbone, head: nn.Linear):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.head(self.encoder(x))


class Teacher(nn.Module):
    """A classifier that is asked and never trained by the student.

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
        return self.predict(x)
