"""What a fit on features costs: ours against skada's adapter of the same method, on the same
arrays, in one process, in turns.

    pip install skada cvxopt
    python scripts/bench_features.py
    python scripts/bench_features.py --samples 4000 --methods tca,jda,coral

The arrays are made up: two Gaussian mixtures of ten classes in 256 dimensions, the second one
shifted, `--samples` rows of both together. Measured is the adaptation alone, without the classifier
after it; of `jda`, which skada has not, ours alone. Printed are medians over the turns. The last
line is the smallest ratio, our speed over skada's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from tl_runner.build.method import method_of
from tl_runner.config.compose import check
from tl_runner.data.task import Outline
from tl_runner.methods.features._base import Domains, OnFeatures

WIDTH, CLASSES = 256, 10
WORDS = {  # of ours, so that both compute the same
    "subspace_alignment": ("method.dimensions=50",),
    "coral": ("method.ridge=1e-6",),
    "tca": ("method.kernel=rbf", "method.dimensions=50", "method.mu=0.1"),
    "jda": ("method.dimensions=50", "method.learner=1nn"),
    "kmm": ("method.bound=1000",),
    "kliep": (f"method.widths=[{1.0}]", "method.centres=100"),
    "ot_da": ("method.plan_entropy=0.05",),
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=",".join(WORDS))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args(words)
    arrays = made_up(asked.samples // 2)
    known = bool(find_spec("skada"))
    print(
        f"{asked.samples:,} samples of {WIDTH} features, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, {asked.turns} turns"
    )
    print("skada" + ("" if known else " is not installed: pip install skada cvxopt"))
    print(f"{'method':<20} {'ours, s':>9} {'skada, s':>9} {'ours is':>9}")
    ratios = []
    for name in asked.methods.split(","):
        variants = {"ours": ours(name, arrays)} | (
            {"skada": theirs(name, arrays)} if known and name != "jda" else {}
        )
        times = in_turns(variants, asked.turns)
        ratio = times["skada"] / times["ours"] if "skada" in times else float("nan")
        ratios += [ratio] if "skada" in times else []
        print(
            f"{name:<20} {times['ours']:>9.3f} {times.get('skada', float('nan')):>9.3f} "
            f"{ratio:>8.2f}x",
            flush=True,
        )
    print(f"{min(ratios):.3f}" if ratios else "nan")


def in_turns(variants: dict[str, Callable[[], Any]], turns: int) -> dict[str, float]:
    """The median seconds of each, one after the other in every turn; a first turn warms up."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(turns + 1):
        for name, call in variants.items():
            began = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - began)
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def made_up(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(source (n, d), its classes, target (n, d))."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((CLASSES, WIDTH))
    y, hidden = draw.integers(CLASSES, size=n), draw.integers(CLASSES, size=n)
    source = centres[y] + draw.standard_normal((n, WIDTH))
    target = centres[hidden] + draw.standard_normal((n, WIDTH)) * np.linspace(0.5, 1.5, WIDTH) + 0.3
    return source / 16, y, target / 16


def ours(name: str, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Callable[[], Any]:
    """The method's own fit, without the learner at its end."""
    source, y, target = (torch.from_numpy(a) for a in arrays)
    words = [f"method={name}", "backbone=raw", "method.scale=null", *WORDS[name]]
    if name == "kmm":
        words.append(f"method.gamma={gamma_of(arrays)}")
    config = check(words, sweep=False)[0].config
    method = method_of(config, Outline([str(c) for c in range(CLASSES)], (WIDTH, 1, 1)))
    assert isinstance(method, OnFeatures)
    method.learn = lambda *samples: {}  # type: ignore[method-assign]
    return partial(torch.no_grad()(method.fit), Domains(source, y, target, CLASSES))


def theirs(name: str, arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Callable[[], Any]:
    """skada's adapter, as its pipelines call it."""
    import skada

    source, y, target = arrays
    x, domain = (
        np.concatenate([source, target]),
        np.r_[np.ones(len(source), int), -np.ones(len(target), int)],
    )
    labels = np.r_[y, -np.ones(len(target), int)]
    gamma = gamma_of(arrays)
    make = {
        "subspace_alignment": lambda: skada.SubspaceAlignmentAdapter(n_components=50),
        "coral": lambda: skada.CORALAdapter(reg=1e-6),
        "tca": lambda: skada.TransferComponentAnalysisAdapter(
            kernel="rbf", n_components=50, mu=0.1
        ),
        "kmm": lambda: skada.KMMReweightAdapter(gamma=gamma, B=1000.0),
        "kliep": lambda: skada.KLIEPReweightAdapter(gamma=gamma, n_centers=100, random_state=0),
        "ot_da": lambda: skada.EntropicOTMappingAdapter(reg_e=0.05, norm="max"),
    }[name]
    return lambda: make().fit_transform(x, labels, sample_domain=domain)


def gamma_of(arrays: tuple[np.ndarray, np.ndarray, np.ndarray]) -> float:
    """Of the kernels: 1 over the median squared distance. KLIEP of ours finds its own in its
    fit."""
    source, _, target = arrays
    return float(1 / np.median(((source[-500:, None] - target[None, :500]) ** 2).sum(2)))


if __name__ == "__main__":
    main()
