"""CDAN+E: the loop of CDAN, which reads the option."""

from bare.cdan import bare

__all__ = ["bare"]
