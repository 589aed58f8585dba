"""Feature vectors with numbers, made up: variants of Friedman's first function as sources, the
function itself as target.

    python scripts/make_friedman.py friedman --draws 10
    tl-run -m data=arrays 'data.source_file=friedman/source_${seed}.npz'
    'data.target_file=friedman/target_${seed}.npz' backbone=raw \
        method=tradaboost_r2 'seed=range(10)'

After Pardoe & Stone, "Boosting for Regression Transfer", ICML 2010, section 4: y = a1 10 sin(pi (b1
x1 + c1) (b2 x2 + c2)) + a2 20 (b3 x3 + c3 - 1/2)^2 + a3 10 (b4 x4 + c4) + a4 5 (b5 x5 + c5) + noise
of deviation 1, ten features in [0, 1] of which five count. The target has a = b = 1 and c = 0; of
each source a and b are normal about 1 with deviation 0.1 d, c about 0 with 0.05 d.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--sources", type=int, default=5, help="of 100 rows each")
    parser.add_argument("--apart", type=float, default=1.0, help="d")
    asked = parser.parse_args(words)
    asked.folder.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.draws):
        draw = np.random.default_rng(seed)
        sources = [rows(draw, 100, asked.apart) for _ in range(asked.sources)]
        x, y = (np.concatenate(parts) for parts in zip(*sources, strict=True))
        np.savez(asked.folder / f"source_{seed}.npz", x=x, y=y)
        x, y = rows(draw, 200, 0.0)
        x_test, y_test = rows(draw, 600, 0.0)
        np.savez(asked.folder / f"target_{seed}.npz", x=x, y=y, x_test=x_test, y_test=y_test)
    print(f"{asked.folder}: {asked.draws} draws of a source and a target")


def rows(draw: np.random.Generator, n: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """x float32 (n, 10) and y (n,) of one concept."""
    a, b = 1 + 0.1 * apart * draw.standard_normal((2, 5))
    c = 0.05 * apart * draw.standard_normal(5)
    x = draw.uniform(size=(n, 10))
    z = x[:, :5] * b + c
    y = (
        a[0] * 10 * np.sin(np.pi * z[:, 0] * z[:, 1])
        + a[1] * 20 * (z[:, 2] - 0.5) ** 2
        + a[2] * 10 * z[:, 3]
        + a[3] * 5 * z[:, 4]
    )
    return x.astype(np.float32), y + draw.standard_normal(n)


if __name__ == "__main__":
    main()
