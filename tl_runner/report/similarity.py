"""Rank correlation of each similarity measure before transfer with the gains of recorded runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tl_runner.report.runs import Run
from tl_runner.report.statistics import mean
from tl_runner.report.table import Row, baseline
from tl_runner.similarity.measures import MEASURES

SCORES = tuple(measure.recorded_as for measure in MEASURES)
SURE = 0.05
LEAST = 4  # groups that a correlation is taken over
PERMUTATIONS = 999
DOMAINS = (
    "data",
    "data.of",
    *(
        f"data.{domain}{what}"
        for domain in ("source", "target")
        for what in ("", "_dir", "_file", "_classes")
    ),
)


@dataclass(frozen=True)
class Point:
    """A group of runs.

    Attributes:
        score: mean of a similarity measure before transfer.
        gain: mean gain over the baseline; of an error, how much less it is.
        row: the group in the table.
    """

    score: float
    gain: float
    row: Row


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b between a measure and the gain, and the chance of as much by luck.

    Over ``n`` groups of ``data`` data sets. Groups of one data set share its score, so they are one
    draw of it: p is how often a random exchange of the scores between data sets, all backbones of
    one together, has as great a tau.
    """

    score: str
    tau: float
    p: float
    n: int
    data: int

    @property
    def reading(self) -> str:
        """Meaning of the correlation in a few words."""
        if math.isnan(self.tau):
            return "the score or the gain is the same everywhere"
        if math.isnan(self.p):
            return "too few data sets to tell"
        if self.p > SURE:
            return "useless here: no more than chance"
        return (
            "larger where transfer gained more"
            if self.tau > 0
            else "smaller where transfer gained more"
        )


def points(table: Sequence[Row], score: str) -> list[Point]:
    """Groups that have a gain and the measure: before transfer, else their baseline's after it."""
    found = []
    for row in table:
        base = baseline(row, table, row.against)
        if row.gain is None or base is None:
            continue
        others = {run.seed: run for run in base.runs}
        values = [
            value
            for run in row.runs
            if run.seed in row.values
            and (value := _score(run, others.get(run.seed), score)) is not None
        ]
        if values:
            average = mean(values)
            assert average is not None
            found.append(
                Point(average, -row.gain.mean if row.metric.lower_is_better else row.gain.mean, row)
            )
    return found


def _score(run: Run, base: Run | None, score: str) -> float | None:
    section, _, name = score.partition(".")
    ending = f".{name}" if name else ""
    before = run.value(f"{section}.before{ending}")
    return before if before is not None or base is None else base.value(f"{section}.after{ending}")


def correlations(table: Sequence[Row]) -> list[Correlation]:
    """Correlation of each measure that enough groups have."""
    from scipy.stats import kendalltau

    found = []
    for score in SCORES:
        of = points(table, score)
        if len(of) >= LEAST:
            tau = float(kendalltau([point.score for point in of], [point.gain for point in of])[0])
            found.append(
                Correlation(
                    score, tau, by_chance(of), len(of), len({data_of(point) for point in of})
                )
            )
    return found


def data_of(point: Point) -> str:
    """Domains of a group, as text that is the same for groups of the same data."""
    return " ".join(
        f"{key}={value}" for key, value in sorted(point.row.keys.items()) if key in DOMAINS
    )


def by_chance(of: Sequence[Point]) -> float:
    """p of Kendall's tau against ``PERMUTATIONS`` exchanges of scores between data sets.

    Each point's score is the mean over its data set and backbone. NaN where too few data sets or no
    variation make a test impossible.
    """
    import numpy as np
    from scipy.stats import kendalltau

    data, backbones = (
        [str(value) for value in values]
        for values in zip(*((data_of(p), p.row.keys["backbone"]) for p in of), strict=True)
    )
    rows, columns = (
        np.array([sorted({*names}).index(name) for name in names]) for names in (data, backbones)
    )
    gains, scores = (
        np.array(values)
        for values in zip(*((point.gain, point.score) for point in of), strict=True)
    )
    means = np.array(
        [
            [
                np.mean(
                    scores[inside]
                    if (inside := (rows == r) & (columns == c)).any()
                    else scores[rows == r]
                )
                for c in range(columns.max() + 1)
            ]
            for r in range(rows.max() + 1)
        ]
    )
    found = abs(kendalltau(means[rows, columns], gains)[0])
    if math.isnan(found) or len(means) < LEAST:
        return math.nan
    draw = np.random.default_rng(0)
    as_great = sum(
        abs(kendalltau(draw.permutation(means)[rows, columns], gains)[0]) >= found - 1e-12
        for _ in range(PERMUTATIONS)
    )
    return (1 + as_great) / (1 + PERMUTATIONS)
