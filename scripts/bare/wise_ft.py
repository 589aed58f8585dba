"""WiSE-FT: the fine-tuning before the mixtures."""

from bare.finetune import bare

__all__ = ["bare"]
