"""Born-again networks: KD from the generation before."""

from bare.kd import bare

__all__ = ["bare"]
