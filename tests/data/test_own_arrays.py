"""Vectors and labels as people have them: a row each, what is read of it or what is said."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from support.runs import results
from tl_runner.data.tasks.arrays import load
from tl_runner.errors import DataError

SETTINGS = {
    "source_file": None,
    "standardise": True,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "target_labels": None,
    "transductive": None,
    "passes": None,
    "seed": 0,
}
N = 40
Y = np.arange(N) % 2
NAMES = np.array(["bad", "good"])


def x_of(y, seed=0):
    """Four features, the first of which says the class."""
    draw = np.random.default_rng(seed)
    return np.c_[3.0 * y + draw.normal(size=len(y)), draw.normal(size=(len(y), 3))]


X = x_of(Y)


def task_of(tmp_path, target, source=None, **more):
    np.savez(tmp_path / "t.npz", **target)
    if source is not None:
        np.savez(tmp_path / "s.npz", **source)
        more = {"source_file": str(tmp_path / "s.npz"), **more}
    return load(**{**SETTINGS, "target_file": str(tmp_path / "t.npz"), **more})


LABELLED = {"x": X, "y": Y}
SOME = np.where(np.arange(N) < 12, Y, -1)  # labels of 12 rows, 6 a class
TEST = {"x_test": x_of(Y[:10], 5), "y_test": Y[:10]}
# (target, source, what load is told, the splits' sizes, classes)
READ = {
    "labels that nobody sees": (LABELLED, LABELLED, {}, {"train": N, "test": N}, ("0", "1")),
    "no y": ({"x": X}, LABELLED, {}, {"train": N}, ("0", "1")),
    "no y, named classes": (
        {"x": X},
        {"x": X, "y": NAMES[Y]},
        {},
        {"train": N},
        ("bad", "good"),
    ),
    "y of -1 alone": ({"x": X, "y": np.full(N, -1)}, LABELLED, {}, {"train": N}, ("0", "1")),
    "y of NaN alone, classes in the source": (
        {"x": X, "y": np.full(N, np.nan)},
        LABELLED,
        {},
        {"train": N},
        ("0", "1"),
    ),
    "y of -1 but for a few": (
        {"x": X, "y": SOME},
        LABELLED,
        {"val_fraction": 0.0, "test_fraction": 0.5},
        {"train": N - 6, "labelled": 6, "test": 6},
        ("0", "1"),
    ),
    "y of -1 but for a few, none seen": (
        {"x": X, "y": SOME},
        LABELLED,
        {"target_labels": 0},
        {"train": N, "test": 12},
        ("0", "1"),
    ),
    "y of -1 but for a few, two a class seen": (
        {"x": X, "y": SOME},
        LABELLED,
        {"target_labels": 2, "val_fraction": 0.0, "transductive": True},
        {"train": N, "labelled": 4, "test": 8},
        ("0", "1"),
    ),
    "y of -1 but for a few, no source": (
        {"x": X, "y": np.where(np.arange(N) < 12, Y + 1, -1)},
        None,
        {"val_fraction": 0.0, "test_fraction": 0.5},
        {"train": N - 6, "labelled": 6, "test": 6},
        ("1", "2"),
    ),
    "classes -1 and 1": (
        {"x": X, "y": 2 * Y - 1},
        {"x": X, "y": 2 * Y - 1},
        {},
        {"train": N, "test": N},
        ("-1", "1"),
    ),
    "classes -1 and 1 without labels in the target": (
        {"x": X},
        {"x": X, "y": 2 * Y - 1},
        {},
        {"train": N},
        ("-1", "1"),
    ),
    "no y, a labelled test part": (
        {"x": X, **TEST},
        LABELLED,
        {},
        {"train": N, "test": 10},
        ("0", "1"),
    ),
    "a test part with some masked": (
        {"x": X, "x_test": TEST["x_test"], "y_test": np.where(np.arange(10) < 4, Y[:10], -1)},
        LABELLED,
        {},
        {"train": N, "test": 4},
        ("0", "1"),
    ),
    "numbers, none in the target": (
        {"x": X},
        {"x": X, "y": X[:, 1]},
        {},
        {"train": N},
        (),
    ),
    "numbers, some NaN": (
        {"x": X, "y": np.where(np.arange(N) < 10, X[:, 1], np.nan)},
        {"x": X, "y": X[:, 1]},
        {"val_fraction": 0.0, "test_fraction": 0.5},
        {"train": N - 5, "labelled": 5, "test": 5},
        (),
    ),
    "labels of booleans": (
        {"x": X, "y": Y > 0},
        None,
        {},
        {"train": N, "test": N},
        ("False", "True"),
    ),
}


@pytest.mark.parametrize("row", READ)
def test_what_is_read(tmp_path, row):
    target, source, more, sizes, classes = READ[row]
    task = task_of(tmp_path, target, source, **more)
    found = {n.partition("_")[2]: len(s) for n, s in task.splits.items() if n.startswith("target")}
    assert found == sizes
    assert tuple(task.classes) == classes
    for name, split in task.splits.items():
        if split.y is not None and not split.y.is_floating_point():
            assert int(split.y.min()) >= 0, name
        elif split.y is not None:
            assert split.y.isfinite().all(), name
    assert task.splits["target_train"].y is None
    if "y" in target and sizes == {"train": N, "test": N}:
        order = task.splits["target_test"].ids
        assert task.splits["target_test"].y.tolist() == Y[order].tolist()


def test_rows_without_labels_are_named(tmp_path):
    task = task_of(tmp_path, {"x": X, **TEST}, LABELLED)
    assert task.files["target"][:2] == ["x[0]", "x[1]"]
    assert task.files["target"][N:] == [f"x_test[{i}]" for i in range(10)]
    assert not task_of(tmp_path, LABELLED, LABELLED).files


def test_hidden_and_missing_labels_give_the_same_vectors(tmp_path):
    hidden, missing = (task_of(tmp_path, t, LABELLED) for t in (LABELLED, {"x": X}))
    for name in ("source_train", "target_train"):
        assert torch.equal(hidden.splits[name].x, missing.splits[name].x)
        assert torch.equal(hidden.splits[name].ids, missing.splits[name].ids)


# (target, source, what the message must hold)
REFUSED = {
    "no labels at all": ({"x": X}, None, ["has no labels", "data.source_file"]),
    "-1 alone and no source": ({"x": X, "y": np.full(N, -1)}, None, ["has no labels"]),
    "a source with rows without labels": (
        {"x": X},
        {"x": X, "y": SOME},
        ["28 of 40 rows have no label", "a source is to learn from"],
    ),
    "a source without y": (LABELLED, {"x": X}, ["40 of 40 rows have no label"]),
    "bytes": (
        {"x": X, "y": np.array([b"no", b"yes"])[Y]},
        None,
        ["t.npz: y holds bytes", "y.astype(str)"],
    ),
    "objects": (
        {"x": X, "y": np.array(["no", "yes"], dtype=object)[Y]},
        None,
        ["Python objects, which are not read", "y=y.astype(str)"],
    ),
    "floats for classes beside integers": (
        {"x": X, "y": Y.astype(float)},
        LABELLED,
        ["classes in data.source_file, numbers in data.target_file", "y.astype(int)"],
    ),
    "a class in y_test alone": (
        {**LABELLED, "x_test": X[:4], "y_test": np.array([0, 1, 7, 7])},
        None,
        ["7 of y_test is not in y"],
    ),
    "a class that the source has not": (
        {"x": X, "y": np.where(np.arange(N) < 12, Y + 5, -1)},
        LABELLED,
        ["5, 6 is no class of the source, which has 0, 1"],
    ),
    "an empty test part": (
        {**LABELLED, "x_test": X[:0], "y_test": Y[:0]},
        None,
        ["t.npz: x_test is empty"],
    ),
    "a test part without labels": ({**LABELLED, "x_test": X}, None, ["x_test without y_test"]),
    "labels of a test part alone": ({**LABELLED, "y_test": Y}, None, ["y_test without x_test"]),
    "infinite numbers": ({"x": X, "y": np.full(N, np.inf)}, None, ["infinite"]),
    "numbers that differ where single precision has no digits": (
        {"x": X, "y": 1.7e9 + 10 * X[:, 1]},
        None,
        ["data.target_file=", "t.npz: y is around 1.7e+09 with a deviation of", "y minus a con"],
    ),
    "such numbers in some rows": (
        {"x": X, "y": np.where(np.arange(N) < 10, 1.7e9 + X[:, 1], np.nan)},
        {"x": X, "y": X[:, 1]},
        ["data.target_file=", "around 1.7e+09"],
    ),
    "such numbers in a source": (
        {"x": X},
        {"x": X, "y": 1e-50 * X[:, 1]},
        ["data.source_file=", "(y - mean) / deviation"],
    ),
    "names that are no text": (
        {"x": X, "y": np.array(["a", "\ud800b"])[Y]},
        None,
        ["t.npz: y[1] is no text"],
    ),
    "one number for a test part": (
        {**LABELLED, "x_test": np.float64(3), "y_test": Y},
        None,
        ["t.npz: x_test is float64 of shape ()"],
    ),
    "one class": (
        {"x": X, "y": NAMES[0 * Y]},
        None,
        ["data.target_file=", "t.npz holds one class, bad: a classifier needs two or more."],
    ),
    "one class beside a source": (
        {"x": X, "y": 0 * Y},
        LABELLED,
        ["data.target_file=", "one class, 0", "not known leave y out"],
    ),
    "a source of one class": (
        LABELLED,
        {"x": X, "y": 0 * Y},
        ["data.source_file=", "one class, 0"],
    ),
    "-1 and 0 for classes": (
        {"x": X, "y": Y - 1},
        None,
        ["one class, 0", "store classes -1 and 0 as 0 and 1"],
    ),
    "a test part with all masked": (
        {**LABELLED, "x_test": X[:4], "y_test": np.full(4, -1)},
        LABELLED,
        ["data.target_file=", "no row of x_test has a label", "Leave x_test and y_test out"],
    ),
    "a source's test part with some masked": (
        LABELLED,
        {**LABELLED, "x_test": X[:4], "y_test": np.array([0, 1, -1, -1])},
        ["data.source_file=", "2 of 4 rows have no label in y_test", "Leave them out"],
    ),
    "numbers in a test part alone, classes in the source": (
        {"x": X, "x_test": X, "y_test": X[:, 1]},
        LABELLED,
        ["classes in data.source_file, numbers in data.target_file"],
    ),
    "a feature beyond single precision": (
        {"x": np.where(np.arange(N)[:, None] == [99, 99, 7, 99], 1e300, X)},
        LABELLED,
        ["data.target_file=", "t.npz: x[7, 2] is 1e+300, standardised", "rescale feature 2"],
    ),
    "such a feature in a test part": (
        {**LABELLED, "x_test": np.array([X[0], [0, 1e300, 0, 0]]), "y_test": Y[:2]},
        None,
        ["t.npz: x_test[1, 1] is 1e+300"],
    ),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_refused(tmp_path, row):
    target, source, parts = REFUSED[row]
    with pytest.raises(DataError) as said:
        task_of(tmp_path, target, source)
    for part in parts:
        assert part in str(said.value)


def test_a_feature_that_is_not_standardised_is_refused_with_that_cure(tmp_path):
    x = np.where(np.arange(N)[:, None] == [3, 99, 99, 99], 1e300, X)
    with pytest.raises(DataError, match=r"x\[3, 0\] is 1e\+300, .* Set data\.standardise=true"):
        task_of(tmp_path, {"x": x, "y": Y}, standardise=False)
    assert task_of(tmp_path, {"x": x, "y": Y}).splits["target_train"].x.isfinite().all()


PART = {"x": X, "y": SOME}
FEW = {"x": X[:2], "y": Y[:2]}  # a row of each class
INDUCTIVE = {"target_labels": 0, "transductive": False}
# (target, source, what load is told, what is said of the target's parts or why it is refused)
SAID = {
    "some labels, all seen": (
        PART,
        LABELLED,
        {"target_labels": "all", "transductive": True, "val_fraction": 0.0},
        "t.npz: 40 vectors, 12 with labels that training sees, and none to test on",
    ),
    "some labels, none seen, none held out": (
        {**LABELLED, "x": X, "y": SOME},
        {**LABELLED, **TEST},
        {**INDUCTIVE, "test_fraction": 0.0},
        "t.npz: 40 vectors, without their labels, and none to test on",
    ),
    "all labels, none held out": (
        LABELLED,
        None,
        {"target_labels": "all", "val_fraction": 0.0, "test_fraction": 0.0},
        "t.npz: 40 vectors, 40 with labels that training sees, and none to test on",
    ),
    "no labels": ({"x": X}, LABELLED, {}, "t.npz: 40 vectors without labels, and none to test on"),
    "no row for the source's test": (
        LABELLED,
        LABELLED,
        {"test_fraction": 0.02},
        r"source_file=.*: no row is left for test: set data\.test_fraction=0\.03 or more, or add",
    ),
    "no fraction that gives the source's test a row": (
        LABELLED,
        FEW,
        {},
        "source_file=.*: no row is left for test: add rows, two of a class at least",
    ),
    "no row for the target's test": (
        LABELLED,
        {**LABELLED, **TEST},
        {**INDUCTIVE, "test_fraction": 0.0},
        r"target_file=.*: no row is left for test: set .*, or leave data\.transductive at null",
    ),
    "no row to train on": (
        FEW,
        None,
        {"target_labels": "all", "test_fraction": 0.9},
        r"target_file=.*: no row is left for training: lower data\.test_fraction",
    ),
}


@pytest.mark.parametrize("row", SAID)
def test_what_is_said_of_the_parts(tmp_path, row):
    target, source, more, said = SAID[row]
    if "no row" not in said:
        assert said in task_of(tmp_path, target, source, **more).protocol
        return
    with pytest.raises(DataError, match=said):
        task_of(tmp_path, target, source, **more)


def test_a_fraction_that_is_named_is_enough(tmp_path):
    sizes = {1000: 0.01, 20: 0.03, 5: 0.11, 3: 0.17, 2: 0.26}
    for rows, fraction in sizes.items():
        source = {"x": x_of(y := np.arange(2 * rows) % 2), "y": y}
        with pytest.raises(DataError, match=f"data.test_fraction={fraction} or more"):
            task_of(tmp_path, LABELLED, source, test_fraction=0.0)
        assert task_of(tmp_path, LABELLED, source, test_fraction=fraction).splits["source_test"]


@pytest.mark.parametrize(
    "names",
    [
        [str(2**62 + i) for i in range(8)],  # alike in double precision
        ["-3", "0", "00", "000", "0001", "001", "01", "1", "2", "10", "9" * 120, "a"],
    ],
)
def test_classes_have_one_order(tmp_path, names):
    y = np.array(names[::-1])[np.arange(N) % len(names)]
    assert [*task_of(tmp_path, {"x": X, "y": y}).classes] == names


def test_whole_values_are_counted_before_they_are_rounded(tmp_path):
    y = 1e7 + 1000 * (np.arange(N) % 10) + 0.25  # whole in single precision
    assert not task_of(tmp_path, {"x": X, "y": y}).notes


@pytest.mark.parametrize(
    ("y", "part"),
    [
        (Y.astype(float), "it has 2 whole values. If they are classes"),
        (np.ones(N), "it has 1 whole value. If"),
        (np.arange(60), "60 different integers, which are taken as classes"),
    ],
)
def test_labels_that_may_be_meant_otherwise_are_said(tmp_path, y, part):
    task = task_of(tmp_path, {"x": np.resize(X, (len(y), 4)), "y": y}, test_fraction=0.0)
    assert part in task.notes[0]
    assert not task_of(tmp_path, LABELLED).notes


@pytest.mark.parametrize(
    ("factor", "offset"), [(1, 0), (1e-9, 0), (20, 1.7e9), (1e-3, 1e3), (1e300, 0), (1e-200, 0)]
)
def test_a_feature_of_any_scale_is_as_good_as_any_other(tmp_path, factor, offset):
    files = []
    for seed in (0, 1):
        y = np.random.default_rng(seed).integers(0, 2, 400)
        x = x_of(y, seed)
        x[:, 0] = x[:, 0] * factor + offset
        files.append({"x": x, "y": y})
    task = task_of(tmp_path, files[1], files[0])
    one, other = task.splits["source_train"], task.splits["target_test"]
    learned = LogisticRegression().fit(one.x.flatten(1).numpy(), one.y.numpy())
    assert learned.score(other.x.flatten(1).numpy(), other.y.numpy()) > 0.9
    assert one.x.dtype == torch.float32


def test_a_constant_feature_is_only_moved(tmp_path):
    x = np.c_[X, np.full(N, 1e-12), np.full(N, 3e9)]
    task = task_of(tmp_path, {"x": x, "y": Y})
    assert task.scale["deviation"][-2:] == [1.0, 1.0]
    assert torch.equal(task.splits["target_train"].x[:, -2:], torch.zeros(N, 2, 1, 1))


def test_numbers_without_labels_are_predicted_and_have_no_score(tl_run, tmp_path):
    np.savez(tmp_path / "s.npz", x=X, y=X[:, 1])
    np.savez(tmp_path / "t.npz", x=X)
    files = (f"data.source_file={tmp_path / 's.npz'}", f"data.target_file={tmp_path / 't.npz'}")
    words = ("method=no_transfer", "backbone=raw", "method.learner=ridge", "figures=false")
    ended = tl_run("data=arrays", *files, *words, "device=cpu", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert (result["metric"], result["score"]) == ("rmse", None)
    assert f"no labels, so no error: {N} predicted (predictions.csv)" in ended.text
    assert "target test" not in ended.text
    mean = np.load(tmp_path / "run" / "predictions.npz")["target_train/values"].mean()
    assert result["target_predictions"]["mean"] == pytest.approx(mean)
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert rows[0] == "file,value"
    assert len(rows) == N + 1
