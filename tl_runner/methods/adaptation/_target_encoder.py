"""Adaptation with a second encoder for the target; the source's is left alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tl_runner.backbones._batch_norm import frozen_norms
from tl_runner.methods.adaptation._base import pretraining
from tl_runner.methods.base import Method, cross_entropy, encode
from tl_runner.methods.phases import Hooks, Outputs, Phase, Update

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from tl_runner.methods.batch import Batch, Losses, SplitPasses
    from tl_runner.methods.setting import Setting


class TargetEncoder(Method):
    """A second encoder for the target, which starts as a copy of the source's.

    Encoder and head stay as ``pretrain`` left them; the target classifier is the target encoder
    under that head.

    Args:
        pretrain: lengths and optimiser of the source classifier; 0 epochs leave the phase out.
        adapt: lengths and optimisers of the second phase.
    """

    def __init__(self, setting: Setting, *, pretrain: Mapping[str, Any], adapt: Mapping[str, Any]):
        super().__init__(setting)
        self.encoder, self.head = self.encoder_and_head()
        self.pretrain, self.adapt = pretrain, adapt
        self.target_encoder = self.fresh("backbone", setting.make_backbone)

    def forward(self, x: Tensor) -> Tensor:
        """Source images (B, C, H, W) to logits (B, K)."""
        return self.head(self.features(x))

    def features(self, x: Tensor, domain: str = "source") -> Tensor:
        """Images (B, C, H, W) to the source encoder's features (B, d)."""
        return encode(self.encoder, x, domain)

    def start(self) -> None:
        """Copy the source's encoder, once, as ``adapt`` begins."""
        self.target_encoder.load_state_dict(self.encoder.state_dict())

    def eval_layers(self, encoder: nn.Module) -> list[nn.Module]:
        """Layers of the target encoder that stay in eval mode while it adapts."""
        return frozen_norms(encoder, self.setting.bn)

    def adapting(
        self,
        updates: Sequence[Update],
        reads: Mapping[str, str],
        *,
        source_predict: Callable[[Tensor], Tensor] | None = None,
        each_epoch: Callable[[SplitPasses], dict[str, Tensor]] | None = None,
        **fields: Any,
    ) -> list[Phase]:
        """``pretrain``, and ``adapt`` of these updates.

        Args:
            updates: which train the target encoder.
            reads: the batch's domains and the split that each comes from.
            source_predict: images to logits for images of the source; None: as for the target's.
            each_epoch: a hook of the phase.
            fields: of the phase.
        """
        adapt = Phase.of(
            self.adapt,
            name="adapt",
            reads=reads,
            updates=updates,
            outputs=Outputs(
                predict=lambda x: self.head(self.target_encoder(x)),
                source_predict=source_predict,
                embed={"source": self.encoder, "target": self.target_encoder},
            ),
            hooks=Hooks(begin=self.start, each_epoch=each_epoch),
            eval_layers=self.eval_layers(self.target_encoder),
            **fields,
        )
        return [*pretraining(self, TargetEncoder), adapt]

    def labelled_cross_entropy(self, batch: Batch) -> Losses:
        """Cross-entropy of labelled target images under the target encoder, if the run has any."""
        if not self.setting.labelled:
            return {}
        logits = self.head(self.target_encoder(batch.labelled.x))
        return {
            "cross_entropy": cross_entropy(logits, [batch.labelled], self.adapt["label_smoothing"])
        }
