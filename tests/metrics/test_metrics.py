"""Metrics against scikit-learn and brute force, on made-up predictions; and what a run writes of
them."""

from __future__ import annotations

import json
import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from support.runs import TINY
from tl_runner.metrics import bootstrap, classification
from tl_runner.metrics import evaluation_report as report
from tl_runner.metrics.log_odds import log_odds
from tl_runner.metrics.selection_scores import unlabelled as selection

AVERAGES = ("macro", "micro", "weighted")
SCORES = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}


def made_up(
    n: int, k: int, *, decimals: int | None = None, imbalance: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, k) that know something of the labels (n,); rounded to ``decimals`` they
    tie."""
    generator = np.random.default_rng(seed)
    prior = np.exp(-imbalance * np.arange(k))
    y = generator.choice(k, size=n, p=prior / prior.sum())
    logits = generator.normal(size=(n, k))
    logits[np.arange(n), y] += 1.5
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    return (p if decimals is None else p.round(decimals)), y


def one_hot(labels: list[int], k: int) -> np.ndarray:
    return np.eye(k)[labels]


def by_hand(p: np.ndarray, y: np.ndarray) -> dict[str, float | None]:
    """Every scalar from scikit-learn's own functions, the calibration error from a loop over
    samples and bins."""
    n, k = p.shape
    predicted, present = p.argmax(1), np.unique(y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without samples
        found: dict[str, float | None] = {
            "accuracy": sk.accuracy_score(y, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(y, predicted),
        }
    for name, score in SCORES.items():
        for average in AVERAGES:
            found[f"{name}_{average}"] = score(
                y, predicted, labels=range(k), average=average, zero_division=0
            )
    ranked = list(present) if len(present) > 1 else []
    for name, function in (
        ("auc_macro", sk.roc_auc_score),
        ("average_precision_macro", sk.average_precision_score),
    ):
        found[name] = np.mean([function(y == c, p[:, c]) for c in ranked]) if ranked else None
    found["ece"] = 0.0
    edges = np.linspace(0, 1, 16)
    for low, high in pairwise(edges):
        inside = [i for i in range(n) if low < p[i].max() <= high]
        if inside:
            gap = np.mean([p[i].max() for i in inside]) - np.mean(
                [predicted[i] == y[i] for i in inside]
            )
            found["ece"] += len(inside) / n * abs(gap)
    found["log_loss"] = -np.mean(np.log(np.clip(p[np.arange(n), y], np.finfo(float).eps, 1)))
    return found


ORDINARY = {
    f"{n} of {k}": made_up(n, k, imbalance=imbalance, seed=n)
    for n, k, imbalance in [
        (200, 2, 0.0),
        (300, 5, 0.5),
        (50, 10, 0.3),
        (1000, 3, 2.0),
        (400, 20, 0.0),
    ]
}
DEGENERATE = {
    "one sample": (np.array([[0.2, 0.5, 0.3]]), np.array([1])),
    "one class only": (made_up(20, 4)[0], np.full(20, 2)),
    "a class absent": (made_up(60, 4)[0], made_up(60, 3)[1]),
    "absent and predicted": (one_hot([3, 3, 1, 0], 4), np.array([0, 1, 1, 0])),
    "never predicted": (one_hot([0, 0, 1, 1], 3), np.array([0, 1, 2, 2])),
    "neither": (one_hot([0, 1, 1], 5), np.array([0, 1, 0])),
    "all equal": (np.full((30, 3), 1 / 3), np.arange(30) % 3),
    "ties": made_up(300, 4, decimals=1, seed=9),
    "two classes": (made_up(2, 2)[0], np.array([0, 1])),
    "two classes, one there": (one_hot([1, 0, 1], 2), np.array([1, 1, 1])),
    "sure and wrong": (one_hot([1, 0], 2), np.array([0, 1])),
    "sure and right": (one_hot([0, 1, 2], 3), np.array([0, 1, 2])),
    "float32": (
        made_up(100, 6, imbalance=1.0)[0].astype(np.float32),
        made_up(100, 6, imbalance=1.0)[1],
    ),
}


@pytest.mark.parametrize("case", [*ORDINARY, *DEGENERATE])
def test_every_metric_is_scikit_learns_and_nothing_warns(case):
    p, y = (ORDINARY | DEGENERATE)[case]
    k = p.shape[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report.classification(p, y, resamples=50)
    expected = by_hand(p, y)
    assert found["metrics"].keys() == expected.keys()
    for name, value in expected.items():
        assert found["metrics"][name] == (
            None if value is None else pytest.approx(value, rel=1e-6, abs=1e-9)
        ), name
    predicted = p.argmax(1)
    assert found["confusion"] == sk.confusion_matrix(y, predicted, labels=range(k)).tolist()
    per_class = found["per_class"]
    for name, score in SCORES.items():
        assert per_class[name] == pytest.approx(
            score(y, predicted, labels=range(k), average=None, zero_division=0)
        )
    assert per_class["support"] == np.bincount(y, minlength=k).tolist()
    for c in range(k):
        both = 0 < per_class["support"][c] < len(y)
        assert per_class["auc"][c] == (
            pytest.approx(sk.roc_auc_score(y == c, p[:, c])) if both else None
        )
        assert per_class["average_precision"][c] == (
            pytest.approx(sk.average_precision_score(y == c, p[:, c])) if both else None
        )
    json.dumps(found, allow_nan=False)
    for name, value in found["metrics"].items():
        assert value is not None or (name in found["notes"] and name not in found["intervals"])
    assert all(low <= high for low, high in found["intervals"].values())
    assert found["intervals"].keys() == {
        name for name, value in found["metrics"].items() if value is not None
    }


def test_with_every_class_there_the_macro_auc_is_scikit_learns():
    p, y = ORDINARY["300 of 5"]
    found = report.classification(p, y, resamples=0)
    assert found["metrics"]["auc_macro"] == pytest.approx(
        sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
    )
    assert found["metrics"]["log_loss"] == pytest.approx(sk.log_loss(y, p, labels=range(5)))
    assert found["intervals"] == {}
    assert found["notes"] == {}


def test_notes_name_the_classes_that_are_missing():
    notes = report.classification(*DEGENERATE["neither"])["notes"]
    assert "class 2, 3, 4" in notes["auc_macro"]
    named = report.classification(*DEGENERATE["neither"], names="abcde")["notes"]
    assert "no sample of class c, d, e: left out" in named["auc_macro"]
    assert "left out" in notes["auc_macro"]
    assert "count as 0" in notes["recall_macro"]
    assert "never predicted" in notes["precision_macro"]
    assert (
        "every sample is of class 2"
        in report.classification(*DEGENERATE["one class only"])["notes"]["auc_macro"]
    )


def test_a_bin_holds_its_upper_edge():
    p = np.array([[3 / 5, 2 / 5], [0.6000001, 0.3999999]])  # 3 / 5 is the edge of bins 9 and 10
    counts, accuracy, _ = report.reliability(p, np.array([0, 1]))
    assert counts.nonzero()[0].tolist() == [8, 9]
    assert accuracy[8] == 1
    assert accuracy[9] == 0


def test_large_splits_have_no_interval_of_the_ranking_and_say_so(monkeypatch):
    monkeypatch.setattr(report, "RANKING_LIMIT", 100)
    found = report.classification(*made_up(60, 3), resamples=20)
    assert found["metrics"]["auc_macro"] > 0.5
    assert "auc_macro" not in found["intervals"]
    assert "no interval" in found["notes"]["auc_macro"]
    assert "accuracy" in found["intervals"]


@pytest.mark.parametrize("decimals", [None, 1])
def test_bootstrap_by_counts_is_scikit_learn_on_the_drawn_samples(decimals):
    """The same resamples, once as counts and once as rows repeated that often; a class is missing
    from some."""
    p, y = made_up(40, 4, decimals=decimals, imbalance=0.8, seed=4)
    if decimals:
        assert len(np.unique(p)) < 12
    n, k = p.shape
    counts = bootstrap.draw(np.random.default_rng(1), 30, n)
    assert (counts.sum(1) == n).all()
    losses = -np.log(np.clip(p[np.arange(n), y], np.finfo(float).eps, 1))
    confidence, bins = report._confidence(p)
    found = bootstrap.of_confusion(counts, y, p.argmax(1), k)
    found |= bootstrap.of_calibration(counts, confidence - (p.argmax(1) == y), bins, losses)
    found |= bootstrap.of_rankings(counts.T, p, y)
    missing = 0
    for r, row in enumerate(counts):
        drawn = np.repeat(np.arange(n), row)
        missing += len(np.unique(y[drawn])) < k
        expected = by_hand(p[drawn], y[drawn])
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert found[name][r] == pytest.approx(value, abs=1e-9), (name, r)
    assert 0 < missing < 30
    auc, precision = bootstrap.of_ranking(counts.T, p[:, 1], y == 1)
    drawn = np.repeat(np.arange(n), counts[0])
    assert auc[0] == pytest.approx(sk.roc_auc_score(y[drawn] == 1, p[drawn, 1]))
    assert precision[0] == pytest.approx(sk.average_precision_score(y[drawn] == 1, p[drawn, 1]))


def test_resamples_of_confusion_cells_are_distributed_as_those_of_samples():
    p, y = made_up(150, 3, imbalance=0.5)
    counts = bootstrap.draw(np.random.default_rng(0), 4000, len(y))
    by_samples = bootstrap.intervals(bootstrap.of_confusion(counts, y, p.argmax(1), 3))
    by_cells = report.classification(p, y, resamples=4000)["intervals"]
    for name, interval in by_samples.items():
        assert by_cells[name] == pytest.approx(interval, abs=0.012), name


def test_intervals_hold_the_estimate_shrink_and_repeat():
    found = {n: report.classification(*made_up(n, 4, seed=3)) for n in (400, 6400)}
    for n, one in found.items():
        for name, (low, high) in one["intervals"].items():
            assert low < one["metrics"][name] < high, (n, name)
    for name in found[400]["intervals"]:
        widths = [high - low for low, high in (found[n]["intervals"][name] for n in (400, 6400))]
        assert widths[0] / widths[1] == pytest.approx(4, rel=0.35), name  # sqrt(6400 / 400)
    low, high = found[6400]["intervals"]["accuracy"]
    share = found[6400]["metrics"]["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(share * (1 - share) / 6400), rel=0.1)
    again, other = (report.classification(*made_up(400, 4, seed=3), seed=seed) for seed in (0, 1))
    assert again == found[400]
    assert other["intervals"] != found[400]["intervals"]
    assert other["metrics"] == found[400]["metrics"]


def test_resamples_in_portions_are_as_many(monkeypatch):
    monkeypatch.setattr(bootstrap, "CHUNK", 700)
    assert list(bootstrap.chunks(10, 200)) == [3, 3, 3, 1]
    assert list(bootstrap.chunks(2, 10_000)) == [1, 1]
    in_portions = report.classification(*made_up(200, 4), resamples=500)["intervals"]
    monkeypatch.undo()
    for name, interval in report.classification(*made_up(200, 4), resamples=500)[
        "intervals"
    ].items():
        assert in_portions[name] == pytest.approx(interval, abs=0.05), name


def test_regression_is_scikit_learns():
    generator = np.random.default_rng(5)
    y = generator.normal(3, 2, size=300)
    predicted = y + generator.normal(size=300)
    found = report.regression(predicted, y)
    functions = {
        "rmse": sk.root_mean_squared_error,
        "mae": sk.mean_absolute_error,
        "r2": sk.r2_score,
    }
    for name, function in functions.items():
        assert found["metrics"][name] == pytest.approx(function(y, predicted))
        low, high = found["intervals"][name]
        assert low < found["metrics"][name] < high
    counts = bootstrap.draw(np.random.default_rng(1), 20, 300)
    values = bootstrap.of_regression(counts, predicted, y)
    for r, row in enumerate(counts):
        drawn = np.repeat(np.arange(300), row)
        for name, function in functions.items():
            assert values[name][r] == pytest.approx(function(y[drawn], predicted[drawn]))


@pytest.mark.parametrize("y", [[2.0], [2.0, 2.0, 2.0]])
def test_r2_of_constant_targets_is_undefined(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = report.regression(np.array([2.5, 1.0, 2.0])[: len(y)], np.array(y))
    assert found["metrics"]["r2"] is None
    assert "undefined" in found["notes"]["r2"]
    assert found["intervals"].keys() == {"rmse", "mae"}


def test_r2_leaves_out_resamples_of_one_value():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # half of the resamples draw one of the two twice
        found = report.regression(np.array([1.0, 2.0]), np.array([1.1, 2.3]))
    assert np.isfinite(found["intervals"]["r2"]).all()


# ---- what a run writes


def strict(text: str) -> dict:
    """JSON as its standard has it: NaN and Infinity are refused."""

    def refuse(token: str) -> None:
        raise AssertionError(token)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(("samples", "complete"), [(200, True), (8, False)])
def test_a_run_records_every_metric_in_strict_json(tl_run, tmp_path, samples, complete):
    ended = tl_run(
        *TINY,
        "method=source_only",
        f"train.limit.samples={samples}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    assert "Warning" not in ended.text
    result = strict((tmp_path / "run" / "result.json").read_text())
    rows = [strict(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    labelled = {"source_train", "source_val", "source_test", "target_test"}
    for part in ("per_class", "confusion", "notes"):
        assert result[part].keys() == labelled
    assert result["intervals"].keys() == {*labelled, "target_train"}
    assert result["intervals"]["target_train"].keys() == {"atc", "doc"}
    assert set(result["metrics"]) == {*labelled, "target_train"}
    assert result["classes"] == [str(digit) for digit in range(10)]
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        for split in labelled:
            again = report.classification(
                arrays[f"{split}/probabilities"],
                arrays[f"{split}/labels"],
                ranking=log_odds(arrays[f"{split}/logits"]),
            )
            for part in ("metrics", "intervals", "per_class", "confusion", "notes"):
                assert result[part][split] == again[part]
    (row,) = (row for row in rows if row.get("selected") and row["split"] == "target_test")
    assert row["f1_macro"] == result["metrics"]["target_test"]["f1_macro"]
    assert all(result["per_class"]["target_test"]["support"]) is complete
    assert (
        "no sample of class" in result["notes"]["target_test"].get("auc_macro", "")
    ) is not complete


def test_outputs_that_are_not_finite_fail_the_run(tl_run, tmp_path, monkeypatch):
    from tl_runner.training import evaluator as evaluation

    monkeypatch.setattr(evaluation, "pixels", lambda x: torch.full(x.shape, math.nan))
    ended = tl_run(*TINY, "method=source_only", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 1, ended.text
    assert "NaN or infinite" in ended.err
    assert strict((tmp_path / "run" / "result.json").read_text())["status"] == "failed"


# ---- on the device, while a run goes on


@pytest.fixture
def probabilities():
    return torch.randn(
        50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).softmax(1)


def test_entropy_and_im_by_hand(probabilities):
    rows = probabilities.tolist()
    mean_entropy = sum(-sum(q * math.log(q) for q in row) for row in rows) / len(rows)
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    assert selection.entropy(probabilities).item() == pytest.approx(-mean_entropy, abs=1e-12)
    assert selection.im(probabilities).item() == pytest.approx(
        -sum(q * math.log(q) for q in mean) - mean_entropy, abs=1e-12
    )


def test_bnm_is_the_sum_of_singular_values_over_its_bound(probabilities):
    singular = np.linalg.svd(probabilities.numpy(), compute_uv=False)
    assert selection.bnm(probabilities).item() == pytest.approx(
        singular.sum() / math.sqrt(50 * 4), abs=1e-10
    )


def test_the_scores_at_their_best_and_at_collapse():
    sure = torch.eye(4, dtype=torch.float64).repeat(5, 1)
    collapsed = torch.eye(4, dtype=torch.float64)[:1].repeat(20, 1)
    assert selection.entropy(sure).item() == 0
    # entropy alone cannot see a collapse; the other two can
    assert selection.entropy(collapsed).item() == 0
    assert selection.im(sure).item() == pytest.approx(math.log(4))
    assert selection.im(collapsed).item() == pytest.approx(0)
    assert selection.bnm(sure).item() == pytest.approx(1)
    assert selection.bnm(collapsed).item() == pytest.approx(0.5)


def test_accuracy_and_log_loss_on_the_device_are_scikit_learns():
    generator = torch.Generator().manual_seed(2)
    logits, y = (
        torch.randn(201, 5, generator=generator),
        torch.randint(5, (201,), generator=generator),
    )
    # to the bit: scripts compare
    assert classification.accuracy(logits, y).item() == sk.accuracy_score(y, logits.argmax(1))
    assert classification.log_loss(logits, y).item() == pytest.approx(
        sk.log_loss(y, logits.double().softmax(1)), abs=1e-6
    )
