"""A backbone and a linear head, for methods that only train them on labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.methods.base import Method, encode, overridden, supervised_phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from tl_runner.backbones._base import Backbone
    from tl_runner.methods.phases import Phase
    from tl_runner.methods.setting import Setting


class Classifier(Method):
    """An encoder and a linear head, and the supervised phase that trains them."""

    def __init__(self, setting: Setting):
        super().__init__(setting)
        self.encoder, self.head = self.encoder_and_head()

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K)."""
        return self.head(self.features(x))

    def features(self, x: Tensor, domain: str = "source") -> Tensor:
        """Images (B, C, H, W) to features (B, d), under the batch norm of ``domain``."""
        return encode(self.encoder, x, domain)

    def supervised(
        self,
        name: str,
        options: Mapping[str, Any],
        reads: Mapping[str, str],
        head: nn.Module | None = None,
        encoder: Backbone | None = None,
    ) -> Phase:
        """A :func:`supervised_phase` of this encoder and head, or of the ones given."""
        whole = encoder is None and head in (None, self.head)
        return supervised_phase(
            name,
            options,
            reads,
            self.encoder if encoder is None else encoder,
            self.head if head is None else head,
            self.features if encoder is None else encoder,
            self if whole else None,
            shared=not overridden(self, Classifier, "forward", "features"),
        )
