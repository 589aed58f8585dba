"""Distillation: a student learns from what teachers say. :class:`Distillation` is the base for
methods of one's own."""

from tl_runner.methods.distillation._base import Distillation

__all__ = ["Distillation"]
