"""Autoencoder: the linear probe that follows it."""

from bare.linear_probe import bare

__all__ = ["bare"]
