"""Feature vectors from files made up here: what is read, divided, scaled and said; and every kind
of method on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.arrays import vectors
from support.covers import cases
from support.runs import TINY, results
from tl_runner.data.tasks.arrays import load
from tl_runner.errors import DataError
from tl_runner.predict.export import export
from tl_runner.predict.run import Trained

SETTINGS = {
    "source_file": None,
    "standardise": True,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "target_labels": "all",
    "seed": 0,
    "transductive": None,
    "passes": None,
}
WORDS = [word for word in TINY if not word.startswith("data.")]


def task_of(path, **more):
    return load(**{**SETTINGS, "target_file": str(path), **more})


def test_vectors_are_divided_by_class_and_standardised(tmp_path):
    task = task_of(vectors(tmp_path / "a.npz"))
    assert task.classes == ("bad", "good")
    assert {name: len(split) for name, split in task.splits.items()} == {
        "target_train": 44,
        "target_labelled": 44,
        "target_val": 4,
        "target_test": 12,
    }
    assert task.shape == (12, 1, 1)
    train = task.splits["target_labelled"].x
    torch.testing.assert_close(train.mean(0), torch.zeros(12, 1, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(12, 1, 1), atol=1e-5, rtol=0)
    assert task.splits["target_test"].y.bincount().tolist() == [6, 6]
    other = task_of(tmp_path / "a.npz", seed=1)
    assert torch.equal(task.splits["target_test"].ids, other.splits["target_test"].ids)
    raw = task_of(tmp_path / "a.npz", standardise=False)
    with np.load(tmp_path / "a.npz") as content:
        rows = raw.splits["target_test"].ids
        np.testing.assert_array_equal(
            raw.splits["target_test"].x[:, :, 0, 0], content["x"].astype("float32")[rows]
        )


def test_a_files_own_test_part_and_the_sources_scale_are_kept(tmp_path):
    source = vectors(tmp_path / "s.npz", seed=1)
    target = vectors(
        tmp_path / "t.npz",
        shift=7.0,
        x_test=np.ones((3, 12)),
        y_test=np.array(["good", "bad", "bad"]),
    )
    task = task_of(target, source_file=str(source), target_labels=2, val_fraction=0.0)
    assert len(task.splits["target_test"]) == 3
    assert task.splits["target_test"].y.tolist() == [1, 0, 0]
    assert task.splits["target_labelled"].y.bincount().tolist() == [2, 2]
    assert "source_val" not in task.splits
    torch.testing.assert_close(
        task.splits["source_train"].x.mean(), torch.tensor(0.0), atol=1e-5, rtol=0
    )
    assert task.splits["target_train"].x.mean() > 0.5  # the shift is still there


def test_numbers_as_classes_are_in_their_own_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(33, 4))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(33) % 11)
    assert task_of(tmp_path / "a.npz").classes == tuple(str(i) for i in range(11))


def test_classes_may_differ(tmp_path):
    source = vectors(tmp_path / "s.npz", classes=("a", "b", "c"))
    assert task_of(vectors(tmp_path / "t.npz"), source_file=str(source)).source_classes == (
        "a",
        "b",
        "c",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": np.zeros((4, 2))}, r"has no labels\. A file should hold x"),
        ({"x": np.zeros(4), "y": np.zeros(4, int)}, r"float64 of shape \(4,\)"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(3, int)}, "has 4 rows, its labels are int64"),
        ({"x": np.zeros((4, 2)), "y": np.zeros(4, complex)}, "its labels are complex128"),
        (
            {"x": np.array([[1.0], [np.nan], [2.0]]), "y": np.zeros(3, int)},
            "NaN or infinite in 1 row, the first of them 1",
        ),
        ({"x": np.array([["a"]]), "y": np.zeros(1, int)}, "is <U1 of shape"),
        (
            {
                "x": np.zeros((4, 2)),
                "y": np.zeros(4, int),
                "x_test": np.zeros((4, 3)),
                "y_test": np.zeros(4, int),
            },
            "different lengths",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, said):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(DataError, match=said):
        task_of(tmp_path / "a.npz")


def test_no_file_no_archive_and_no_pickle(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        task_of(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("x")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        task_of(tmp_path / "text.npz")
    np.savez(tmp_path / "objects.npz", x=np.array([[{}]], dtype=object), y=np.zeros(1, int))
    with pytest.raises(DataError, match=r"x holds Python objects, which are not read\. Store num"):
        task_of(tmp_path / "objects.npz")
    vectors(tmp_path / "a.npz")
    vectors(tmp_path / "b.npz", d=5)
    with pytest.raises(DataError, match="12 numbers and the target's 5"):
        task_of(tmp_path / "b.npz", source_file=str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    "method",
    cases(
        ["dann", "mcd", "drcn", "shot", "finetune", "lora", "autoencoder", "adda"],
        ("drcn", "lora", "autoencoder"),
    ),
)
def test_methods_run_on_vectors(tl_run, tmp_path, method):
    source, target = vectors(tmp_path / "s.npz", seed=1), vectors(tmp_path / "t.npz", shift=3.0)
    words = [
        f"data.source_file={source}",
        f"data.target_file={target}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    ended = tl_run(*WORDS, "data=arrays", f"method={method}", *words)
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["choices"]["backbone"] == "mlp"
    assert result["classes"] == ["bad", "good"]


def test_new_vectors_are_labelled_as_the_run_labelled_its_own(tl_run, tmp_path):
    target = vectors(tmp_path / "t.npz", n=200)
    run = tmp_path / "run"
    words = [
        f"data.target_file={target}",
        "data.target_labels=all",
        "method=target_only",
        f"hydra.run.dir={run}",
    ]
    ended = tl_run(*WORDS, "data=arrays", *words)
    assert ended.code == 0, ended.text
    one = Trained(run)
    found = one.predict(one.named([target]))
    with np.load(run / "predictions.npz") as arrays:
        rows, p = arrays["target_test/ids"], arrays["target_test/probabilities"]
    np.testing.assert_allclose(found.values[rows], p, atol=1e-6)
    assert str(found.files[3]).endswith("t.npz[3]")
    assert "vectors of 12 numbers" in one.describe()
    about = export(one, tmp_path / "m.pt2")
    assert "vectors float32 (batch, 12); it agrees with the run to" in about
    with np.load(target) as content:
        # not standardised: the network does that
        raw = torch.from_numpy(content["x"].astype("float32"))
    np.testing.assert_allclose(
        torch.export.load(tmp_path / "m.pt2").module()(raw)[1].detach().numpy(),
        found.values,
        atol=1e-5,
    )
    (tmp_path / "text.npz").write_text("x")
    vectors(tmp_path / "short.npz", d=5)
    bad = one.predict([target, tmp_path / "text.npz", tmp_path / "short.npz"]).unreadable
    assert "vectors of 5 numbers, not of 12" in bad[tmp_path / "short.npz"]
    assert len(bad) == 2


def test_a_network_for_images_says_that_vectors_are_none(tl_run, tmp_path):
    words = [
        f"data.target_file={vectors(tmp_path / 'a.npz')}",
        "method=target_only",
        "data.target_labels=all",
        "backbone=lenet",
    ]
    ended = tl_run(*WORDS, "data=arrays", *words)
    assert ended.code == 2
    assert "1x1" in ended.err
    assert "backbone=mlp" in ended.err
