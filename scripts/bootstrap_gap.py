"""How far one method is behind another on the target's test images, with a paired bootstrap
interval.

    python scripts/bootstrap_gap.py outputs/sweeps/RUN_ID shot target_only

For each data set of the sweep: accuracy of the second minus accuracy of the first, in points, the
mean over the seeds that both have. The interval is the percentiles of 10,000 resamples; each draws
test images, the same for every run, and seeds. It reads ``result.json`` and ``predictions.npz`` of
the runs, whose images must be the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

RESAMPLES, LEVEL = 10_000, 95
SPLIT = "target_test"


def correct(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(image ids, whether each was classified correctly), in the order of the ids."""
    with np.load(folder / "predictions.npz") as arrays:
        ids = arrays[f"{SPLIT}/ids"]
        right = arrays[f"{SPLIT}/probabilities"].argmax(1) == arrays[f"{SPLIT}/labels"]
    order = np.argsort(ids, kind="stable")
    return ids[order], right[order]


def found(sweep: Path, methods: tuple[str, str]) -> dict[str, dict[str, dict[int, Path]]]:
    """Folders of finished runs by data set, method and seed."""
    runs: dict[str, dict[str, dict[int, Path]]] = defaultdict(lambda: defaultdict(dict))
    for file in sorted(sweep.rglob("result.json")):
        result = json.loads(file.read_text())
        if result.get("status") == "done" and result["choices"]["method"] in methods:
            runs[result["choices"]["data"]][result["choices"]["method"]][result["seed"]] = (
                file.parent
            )
    return runs


def gap(behind: list[Path], ahead: list[Path], seed: int = 0) -> tuple[float, float, float]:
    """(mean, low, high) in points of runs paired by position."""
    differences = []
    for one, other in zip(behind, ahead, strict=True):
        (ids, a), (other_ids, b) = correct(one), correct(other)
        if not np.array_equal(ids, other_ids):
            sys.exit(f"{one} and {other} were not tested on the same images.")
        differences.append(b.astype(float) - a)
    matrix = 100 * np.stack(differences)
    draw = np.random.default_rng(seed)
    seeds, images = matrix.shape
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        of_images = matrix[:, draw.integers(0, images, images)].mean(1)
        means[i] = of_images[draw.integers(0, seeds, seeds)].mean()
    low, high = np.percentile(means, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return float(matrix.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path)
    parser.add_argument("behind")
    parser.add_argument("ahead", nargs="?", default="target_only")
    words = parser.parse_args()
    for data, by_method in found(words.sweep, (words.behind, words.ahead)).items():
        seeds = sorted(by_method[words.behind].keys() & by_method[words.ahead].keys())
        if not seeds:
            print(f"{data}: no seed that both have")
            continue
        mean, low, high = gap(
            *([by_method[m][s] for s in seeds] for m in (words.behind, words.ahead))
        )
        print(
            f"{data}: {words.behind} is {mean:.2f} points [{low:+.2f}, {high:+.2f}] behind "
            f"{words.ahead} ({len(seeds)} seeds)"
        )


if __name__ == "__main__":
    main()
