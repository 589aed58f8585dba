"""ADDA of the paper: the loop of ADDA."""

from bare.adda import bare

__all__ = ["bare"]
