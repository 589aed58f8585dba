"""LP-FT: the fine-tuning that follows the probe."""

from bare.finetune import bare

__all__ = ["bare"]
