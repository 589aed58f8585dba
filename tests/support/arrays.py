"""Made-up feature vectors in .npz files, with classes or with numbers."""

from __future__ import annotations

import numpy as np


def vectors(path, n=60, d=12, classes=("bad", "good"), shift=0.0, seed=0, **more):
    """Two clouds, a class each."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % len(classes)
    x = draw.normal(size=(n, d)) * 5 + 20 + shift
    x[:, 0] += 30 * y
    np.savez(path, x=x, y=np.array(classes)[y], **more)
    return path


def made(n, bend=0.0, seed=0, d=5):
    """Rows and a linear number of them, which ``bend`` changes."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, d))
    return x, 7 + 3 * x[:, 0] - (2 + bend) * x[:, 1] + bend * x[:, 2] + 0.3 * draw.normal(size=n)


def numbers(path, n=120, bend=0.0, seed=0, **more):
    x, y = made(n, bend, seed)
    np.savez(path, **{"x": x, "y": y, **more})
    return path
