"""Counted randomness: every draw comes from a generator derived from (seed, phase, epoch or step,
stream name).

Nothing is carried from one step to the next, so a run that was killed and resumed, a run whose
pretraining came from elsewhere and a run with one more log line all draw the same numbers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


def derive(seed: int, *stream: int | str) -> int:
    """A 63-bit seed for one stream."""
    digest = blake2b(repr((seed, *stream)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *stream: int | str) -> torch.Generator:
    """A CPU generator for one stream."""
    return torch.Generator().manual_seed(derive(seed, *stream))


def seed_device(device: torch.device, seed: int, *stream: int | str) -> None:
    """Seed torch's own generator of ``device``, which dropout and augmentation draw from.

    ``torch.manual_seed`` would do, but it formats a stack trace per call while CUDA is built in and
    not in use.
    """
    value = derive(seed, *stream)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(value)
    elif device.type == "mps":
        torch.mps.manual_seed(value)
    else:
        torch.default_generator.manual_seed(value)


def seed_all(seed: int, *stream: int | str) -> None:
    """Python's, NumPy's and torch's global generators, for code that draws from them unasked."""
    import numpy as np

    value = derive(seed, *stream)
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.manual_seed(value)


@contextmanager
def seeded(seed: int, *stream: int | str) -> Iterator[None]:
    """torch's CPU generator seeded for one stream inside, as before outside."""
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(derive(seed, *stream))
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
