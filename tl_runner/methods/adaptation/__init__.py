"""Domain adaptation: labelled source images, target images without labels.

The bases here are for methods of one's own: :class:`SharedEncoder` trains one encoder for both
domains, :class:`TargetEncoder` a second one for the target, and leaves the source's alone.
"""

from tl_runner.methods.adaptation._base import Activations, Layers, SharedEncoder, mlp
from tl_runner.methods.adaptation._target_encoder import TargetEncoder

__all__ = ["Activations", "Layers", "SharedEncoder", "TargetEncoder", "mlp"]
