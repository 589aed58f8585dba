"""Ensemble: the fine-tuning of its second member."""

from bare.finetune import bare

__all__ = ["bare"]
