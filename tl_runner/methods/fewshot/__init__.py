"""Few-shot learning from tasks. :class:`MetaLearner` is the base for methods of one's own."""

from tl_runner.methods.fewshot._base import MetaLearner

__all__ = ["MetaLearner"]
