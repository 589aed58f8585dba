"""Similarity of two domains under each candidate: a backbone's features or a finished run's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tl_runner import randomness
from tl_runner.backbones._frozen import KEYS as FROZEN
from tl_runner.build.finished_run import FinishedRun
from tl_runner.build.method import method_of
from tl_runner.build.texts import as_read
from tl_runner.config.compose import Job
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import CheckpointError, DataError, UserError
from tl_runner.jobs import run
from tl_runner.methods.features._base import OnFeatures
from tl_runner.methods.features._learners import learn, logits
from tl_runner.report.runs import collect
from tl_runner.report.similarity import points
from tl_runner.report.table import rows
from tl_runner.similarity import distances as domains
from tl_runner.similarity.a_distance import proxy_a_distance
from tl_runner.similarity.measures import BY_NAME, DISTANCES, MEASURES, Measure, inputs
from tl_runner.training import device as devices
from tl_runner.training.evaluator import outputs_of

HALVES = 20  # half-samples that an interval is of
COSTLY = 6  # half-samples of a measure with a sample limit
SPREAD = 2000  # samples of a domain that half-samples are taken from
PERMUTATIONS = 500
# runs of a group count for a suggestion if their A-distance is so near, and it takes so many groups
NEAR, ENOUGH = (0.25, 5)
RECORDED = 300  # samples that the A-distance of a run's record is of
Array = np.ndarray


@dataclass
class Estimate:
    """Value of a measure with its 95 % interval.

    Attributes:
        n: samples of each domain, or of the target, that it looked at.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass
class Found:
    """Everything measured of one candidate.

    Attributes:
        name: of the candidate. note: what the user should know of it.
        sizes: numbers of samples: source, target, labelled.
        distances, scores: by measure; scores where the target has labels.
        p: of the permutation test that the domains are one.
        as_recorded: the A-distance of as few samples as runs record.
        numbers: whether the labels are numbers, of which there are no scores.
    """

    name: str
    note: str
    sizes: Mapping[str, int]
    distances: dict[str, Estimate] = field(default_factory=dict)
    p: float = 1.0
    scores: dict[str, Estimate] = field(default_factory=dict)
    as_recorded: float = 0.0
    numbers: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Features:
    """Features of both domains under one candidate.

    Attributes:
        source, target: (N, d), (M, d).
        labelled, labelled_y: labelled samples of the target (L, d), and their classes (L,).
        probabilities: a source classifier's on these, (L, K).
    """

    source: Array
    target: Array
    labelled: Array | None
    labelled_y: Array | None
    probabilities: Array | None


def compare(jobs: Sequence[Job], runs: Sequence[Path], samples: int) -> list[Found]:
    """Measures of every candidate: the backbones of ``jobs``, then ``runs``.

    All are compared on the data of the first job.

    Raises:
        UserError: the data cannot be read, or a run is none or does not take such images.
    """
    config = jobs[0].config
    randomness.seed_all(config["seed"])
    task, _ = run.load_data(config)
    if task.source_classes is not None:
        raise DataError(
            "the source and the target have other classes: their domains are not compared. Name "
            "the same classes in both."
        )
    # the scores are of classes
    wanted = ("source_train", "target_train", *(["target_labelled"] if task.classes else []))
    splits: dict[str, Split] = {
        name: few(task.splits[name], samples) for name in wanted if name in task.splits
    }
    finished = [FinishedRun(folder) for folder in runs]
    found = [
        measured(job.choices["backbone"], *of_backbone(job.config, task, splits))
        for job in jobs
        if job.config["backbone"]
    ]
    for folder, trained in zip(runs, finished, strict=True):
        found.append(measured(folder.name, *of_run(trained, task, splits, config)))
    for one in found:
        one.numbers = not task.classes
    return found


def few(split: Split, most: int) -> Split:
    """A split of at most so many samples, the same for every seed."""
    return run.first_of(split, most, "similarity") if len(split) > most else split


def of_backbone(
    config: Mapping[str, Any], task: Task, splits: Mapping[str, Split]
) -> tuple[Features, str]:
    """Features of a network as its config makes it, and a note for the user.

    Its source classifier is a logistic regression on the source's features.
    """
    device = devices.resolve(config["device"])
    plain = {k: v for k, v in config["backbone"].items() if k not in FROZEN}
    config, task = {**config, "backbone": plain}, replace(task, splits=dict(splits))
    task, _ = as_read(task, plain)
    method, splits = method_of(config, task.outline()), task.splits
    assert isinstance(method, OnFeatures)
    device.place(method)
    z = {
        name: outputs_of(
            method, method.features, split.to(device.torch, device.channels_last), device
        )
        for name, split in splits.items()
    }
    z = {name: x.flatten(1).cpu().double() for name, x in z.items()}
    probabilities = None
    if "target_labelled" in z:
        y, k = splits["source_train"].y, len(task.classes)
        assert y is not None
        probabilities = (
            logits(learn("logistic", z["source_train"], y, k, 1.0), z["target_labelled"], k)
            .softmax(1)
            .numpy()
        )
    trained = bool(method.encoder.origin) or not any(True for _ in method.encoder.parameters())
    return features(z, splits, probabilities), method.encoder.origin or (
        "" if trained else "random weights: name some with backbone.weights"
    )


def of_run(
    trained: FinishedRun, task: Task, splits: Mapping[str, Split], config: Mapping[str, Any]
) -> tuple[Features, str]:
    """Features and classifier of a finished run's last phase, and a note for the user.

    Raises:
        UserError: the run takes other inputs than this data, or has no features to compare.
    """
    if tuple(trained.outline.shape) != task.shape:
        raise CheckpointError(
            f"{trained.folder} is a run on images of {trained.outline.shape}, and this data's are "
            f"{task.shape}."
        )
    if trained.outline.scale != task.scale:
        raise UserError(
            f"{trained.folder} learned from vectors that were standardised otherwise than these: "
            "set data.standardise=false for both."
        )
    embed = trained.phase.outputs.embed
    if not {"source", "target"} <= embed.keys():
        raise UserError(
            f"{trained.folder}: its method does not say what its features are (Outputs.embed)."
        )
    device = devices.resolve(config["device"])
    device.place(trained.method)

    def outputs(network: Callable[[Tensor], Tensor], name: str) -> Tensor:
        return outputs_of(
            trained.method, network, splits[name].to(device.torch, device.channels_last), device
        )

    z = {
        name: outputs(embed["source" if name.startswith("source") else "target"], name)
        .flatten(1)
        .cpu()
        .double()
        for name in splits
    }
    if z["source_train"].shape[1] != z["target_train"].shape[1]:
        raise UserError(
            f"{trained.folder}: its features of source and target are of different lengths."
        )
    probabilities = (
        outputs(trained.phase.outputs.predict, "target_labelled").softmax(1).cpu().double().numpy()
        if "target_labelled" in splits
        else None
    )
    choices = trained.result.get("choices") or {}
    return features(
        z, splits, probabilities
    ), f"{choices.get('method')} on {choices.get('data')}, {choices.get('backbone')}"


def features(
    z: Mapping[str, Tensor], splits: Mapping[str, Split], probabilities: Array | None
) -> Features:
    """Features of each split as arrays, with the labels of the labelled target samples."""
    labelled = splits.get("target_labelled")
    labelled_y = None if labelled is None or labelled.y is None else labelled.y.cpu().numpy()
    return Features(
        z["source_train"].numpy(),
        z["target_train"].numpy(),
        z["target_labelled"].numpy() if "target_labelled" in z else None,
        labelled_y,
        probabilities,
    )


def measured(name: str, of: Features, note: str) -> Found:
    """All distances, and the transferability where the target has labels."""
    source, target = domains.unit_scale(of.source, of.target)
    found = Found(
        name,
        note,
        {
            "source": len(source),
            "target": len(target),
            "labelled": 0 if of.labelled is None else len(of.labelled),
        },
    )
    mmd_limit = BY_NAME["mmd"].sample_limit or len(source) + len(target)
    a, b = (evenly(x, mmd_limit) for x in (source, target))
    _, found.p = domains.mmd_test(a, b, PERMUTATIONS)
    for measure in MEASURES:
        if measure.kind == DISTANCES:
            found.distances[measure.name] = estimated(measure, [source, target], paired=False)
    found.as_recorded = proxy_a_distance(evenly(source, RECORDED), evenly(target, RECORDED))
    if (
        of.labelled is not None
        and of.labelled_y is not None
        and of.probabilities is not None
        and len(np.unique(of.labelled_y)) > 1
    ):
        for measure in MEASURES:
            if measure.needs_labels:
                read = inputs(measure, of.labelled, of.probabilities)
                found.scores[measure.name] = estimated(measure, [read, of.labelled_y], paired=True)
    return found


def estimated(measure: Measure, sets: Sequence[Array], paired: bool) -> Estimate:
    """:func:`interval` of a measure, on no more samples of each set than it takes."""
    limit = measure.sample_limit
    some = sets if limit is None else [evenly(x, limit) for x in sets]
    return interval(measure.compute, some, paired, costly=limit is not None)


def evenly(x: Array, most: int) -> Array:
    """Rows of ``x``, at most so many, spread over all."""
    return x if len(x) <= most else x[np.arange(most) * len(x) // most]


def interval(
    measure: Callable[..., float], sets: Sequence[Array], paired: bool = True, costly: bool = False
) -> Estimate:
    """Value of a measure with its interval: 1.96 times its deviation over random halves.

    A half without repeats, where the bootstrap's resample has them: samples that come twice would
    make two domains look further apart, and one sample's neighbours nearer. The deviation over
    halves estimates that of the whole (the jackknife that leaves half out: Shao & Wu, "A General
    Theory for Jackknife Variance Estimation", Annals of Statistics 1989). Of many samples the
    halves are of the first few, and the deviation is scaled by the root of the sizes.

    Args:
        paired: whether rows of the sets belong together.
        costly: takes fewer halves.
    """
    value, draw = measure(*sets), np.random.default_rng(0)
    some = [evenly(x, SPREAD) for x in sets]
    values = []
    for _ in range(COSTLY if costly else HALVES):
        orders = [draw.permutation(len(x))[: max(2, len(x) // 2)] for x in some]
        if paired:
            orders = [orders[0]] * len(some)
        values.append(measure(*(x[np.sort(order)] for x, order in zip(some, orders, strict=True))))
    n, defined = min(map(len, sets)), [one for one in values if math.isfinite(one)]
    spread = (
        1.96
        * (float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan)
        * math.sqrt(min(map(len, some)) / n)
    )
    return Estimate(value, value - spread, value + spread, n)


def suggestion(found: Sequence[Found], recorded: Sequence[Path]) -> str:
    """Gain of transfer in recorded runs whose domains were about as far apart, in words.

    Empty where too few were.
    """
    runs = collect(recorded) if recorded else []
    if not any(r.status == "done" for r in runs):
        return ""
    table = (
        rows(runs, "target_test.accuracy")
        if any("target_test.accuracy" in r.metrics() for r in runs)
        else []
    )
    every = [point for point in points(table, "a_distance") if not point.row.oracle]
    sentences = []
    for one in found:
        gains = sorted(
            100 * point.gain for point in every if abs(point.score - one.as_recorded) <= NEAR
        )
        if len(gains) >= ENOUGH:
            low, middle, high = np.percentile(gains, [25, 50, 75])
            lost = sum(gain < 0 for gain in gains)
            sentences.append(
                f"{one.name}: in {len(gains)} recorded groups of runs with domains about as far "
                "apart (proxy A-distance "
                f"{one.as_recorded - NEAR:.2f} to {one.as_recorded + NEAR:.2f} before transfer, "
                f"of {RECORDED} images) transfer gained "
                f"{low:+.1f} to {high:+.1f} points (quartiles; median {middle:+.1f}) and lost in "
                f"{lost}."
            )
    return "\n".join(sentences)
