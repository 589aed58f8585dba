"""Choices of ``backbone=``. :class:`Backbone` is the base for backbones of one's own."""

from tl_runner.backbones._base import Backbone

__all__ = ["Backbone"]
