"""Distillation: a student learns from the outputs of teachers.

:class:`Distillation` is the base for methods of one's own.
"""

from tl_runner.methods.distillation._base import Distillation

__all__ = ["Distillation"]
