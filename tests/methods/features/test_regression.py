"""Methods on features that are asked for a number: the data, the learners, TrAdaBoost.R2, the
record. All data are made up here."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.svm import LinearSVR

from support.arrays import made, numbers
from support.covers import cases
from support.reports import made_up_run
from support.runs import results
from tl_runner.build.method import for_numbers, method_of
from tl_runner.cli import similarity as alike
from tl_runner.cli.predict import main as predict
from tl_runner.cli.report import main as report
from tl_runner.config.compose import check
from tl_runner.data.task import Outline
from tl_runner.data.tasks.arrays import load
from tl_runner.errors import DataError
from tl_runner.methods.features import _learners as learners
from tl_runner.methods.features import tradaboost_r2
from tl_runner.methods.features._base import Domains
from tl_runner.report.runs import collect
from tl_runner.report.similarity import correlations, points
from tl_runner.report.table import rows
from tl_runner.similarity import compare as alike_run

DOUBLE = torch.float64
SETTINGS = {
    "source_file": None,
    "standardise": True,
    "val_fraction": 0.1,
    "test_fraction": 0.2,
    "target_labels": 0,
    "seed": 0,
    "transductive": None,
    "passes": None,
}
WORDS = ("data=arrays", "backbone=raw", "device=cpu", "device.threads=1")


@pytest.fixture
def files(tmp_path):
    """The two words that name a source and a target."""
    source, target = (
        numbers(tmp_path / "old.npz", 200, 1.0),
        numbers(tmp_path / "new.npz", 150, seed=1),
    )
    return f"data.source_file={source}", f"data.target_file={target}"


# ---- the data


def test_floats_are_numbers_and_whole_numbers_are_classes(tmp_path):
    task = load(**{**SETTINGS, "target_file": str(numbers(tmp_path / "a.npz")), "target_labels": 7})
    assert (task.classes, task.outline().classes) == ((), ())
    assert {name: len(split) for name, split in task.splits.items()} == {
        "target_train": 86,
        "target_labelled": 7,
        "target_val": 10,
        "target_test": 24,
    }
    assert task.splits["target_train"].y is None
    assert task.splits["target_test"].y.dtype == torch.float32
    assert "numbers are asked for" in task.protocol
    whole = load(
        **{
            **SETTINGS,
            "target_file": str(numbers(tmp_path / "b.npz", y=np.arange(120) % 3)),
            "val_fraction": 0.0,
        }
    )
    assert whole.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"y": np.full(120, np.inf)}, "infinite or beyond single precision in 120 rows"),
        ({"y": np.full(120, np.nan)}, "has no labels"),
        ({"y": np.ones((120, 2))}, "labels are float64 of shape"),
        (
            {"x_test": np.zeros((2, 5)), "y_test": np.array(["a", "b"])},
            "one of y and y_test holds floats",
        ),
    ],
)
def test_numbers_that_are_none_are_told(tmp_path, more, said):
    with pytest.raises(DataError, match=said):
        load(**{**SETTINGS, "target_file": str(numbers(tmp_path / "a.npz", **more))})


def test_numbers_in_one_domain_and_classes_in_the_other_are_told(tmp_path):
    source = numbers(tmp_path / "a.npz", y=np.arange(120) % 2)
    with pytest.raises(
        DataError, match=r"classes in data\.source_file, numbers in data\.target_file"
    ):
        load(
            **{
                **SETTINGS,
                "target_file": str(numbers(tmp_path / "b.npz")),
                "source_file": str(source),
            }
        )


# ---- the learners


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", learners.FOR_NUMBERS)
def test_a_learner_of_numbers_is_scikit_learns_in_tensors(kind, weighted):
    if weighted and kind not in learners.WEIGHTABLE:
        pytest.skip("takes no weights")
    x, y = made(80)
    x, new = 4 * x + 2, 4 * made(20, seed=3)[0] + 2
    w = np.random.default_rng(2).uniform(0.2, 2, 80) if weighted else None
    state = learners.learn(
        kind,
        *map(torch.from_numpy, (x, y)),
        0,
        2.0,
        None if w is None else torch.from_numpy(w),
        seed=3,
    )
    found = learners.logits(state, torch.from_numpy(new), 0)
    scale = np.sqrt(((x - x.mean(0)) ** 2).mean())
    z, said = (x - x.mean(0)) / scale, (new - x.mean(0)) / scale
    middle, spread = np.average(y, weights=w), y.std()
    tool = {
        "1nn": KNeighborsRegressor(1),
        "ridge": Ridge(alpha=0.5),
        "svm": LinearSVR(C=2.0, max_iter=10_000, random_state=3),
        "mlp": MLPRegressor(hidden_layer_sizes=(100,), alpha=0.5e-4, random_state=3, max_iter=100),
    }[kind]
    tool.fit(z, (y - middle) / spread, **({"sample_weight": w} if weighted else {}))
    expected = tool.predict(said) * spread + middle
    assert found.shape == (20, 1)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-2 if kind == "mlp" else 1e-6)


# ---- TrAdaBoost.R2


def method(*words, d=5):
    config = check(
        ["method=tradaboost_r2", *WORDS, "data.source_file=a", "data.target_file=b", *words],
        sweep=False,
    )[0].config
    made = method_of(config, Outline([], (d, 1, 1), labelled=True))
    made.notes = []
    return made


def domains(n=60, m=8):
    source, target = made(n, 1.0), made(m, seed=1)
    x, y, labelled, labelled_y = (torch.from_numpy(a) for a in (*source, *target))
    return Domains(x, y, labelled, 0, labelled, labelled_y)


def ridge(x, y, w):
    """The learner by hand: weighted least squares with alpha 1, the weights of mean 1."""
    w = w / w.mean()
    scale = np.sqrt(((x - x.mean(0)) ** 2).mean())
    return (
        Ridge(alpha=1.0).fit(
            (x - x.mean(0)) / scale, (y - np.average(y, weights=w)) / y.std(), sample_weight=w
        ),
        x.mean(0),
        scale,
    )


def by_hand(x, y, n, w, rounds, fade=None):
    """Pardoe & Stone's boosting with loops: what each round says of x, and its vote."""
    said, votes = [], []
    for _ in range(rounds):
        w = w / w.sum()
        tool, mean, scale = ridge(x, y, w)
        predicted = tool.predict((x - mean) / scale) * y.std() + np.average(y, weights=w)
        off = np.abs(y - predicted) / np.abs(y - predicted).max()
        judged = range(n, len(x)) if fade is not None else range(len(x))
        error = sum(w[i] * off[i] for i in judged) / sum(w[i] for i in judged)
        if error >= 0.5 and fade is None:
            break
        error = min(error, 0.49)
        beta = error / (1 - error)
        said.append(predicted)
        votes.append(np.log(1 / beta))
        new = w.copy()
        for i in range(len(x)):
            if i >= n:
                new[i] = w[i] * beta ** -off[i]
            elif fade is not None:
                new[i] = w[i] * fade ** off[i]
        if fade is None:
            new[n:] *= w[n:].sum() / new[n:].sum()
        w = new
    return np.array(said), np.array(votes)


@pytest.mark.parametrize("stage", [1, 2])
def test_boosting_is_the_papers_written_with_loops(stage):
    d = domains()
    one = method("method.rounds=6", f"method.stages={stage}")
    x, y = torch.cat([d.source, d.labelled]), torch.cat([d.y, d.labelled_y])
    w, fade = (
        torch.full((68,), 1 / 68, dtype=DOUBLE),
        (1 / (1 + np.sqrt(2 * np.log(60) / 6)) if stage == 1 else None),
    )
    learned, votes = one.boost(x, y, 60, w, fade)
    said, expected = by_hand(x.numpy(), y.numpy(), 60, w.numpy(), 6, fade)
    assert len(votes) == len(expected) > 2
    np.testing.assert_allclose(votes, expected, rtol=1e-6)
    np.testing.assert_allclose(
        np.stack([tradaboost_r2.predict(state, x) for state in learned]), said, rtol=1e-6
    )


def test_the_second_half_of_the_rounds_votes_in_one_stage():
    d = domains()
    for rounds, late in ((1, 1), (5, 3), (6, 4)):
        found = method(f"method.rounds={rounds}", "method.stages=1").fit(d)
        assert len(found["votes"]) == late
        assert found["learner_weight"].shape == (late, 1, 5)


def test_the_weighted_median_is_the_least_that_reaches_half():
    draw = np.random.default_rng(0)
    said, votes = draw.normal(size=(9, 7)), draw.dirichlet(np.ones(7))
    expected = [min(v for v in row if sum(votes[row <= v]) >= 0.5) for row in said]
    found = tradaboost_r2.median(torch.from_numpy(said), torch.from_numpy(votes))
    np.testing.assert_allclose(found.numpy(), expected)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_a_step_gives_the_target_its_share(share):
    draw = np.random.default_rng(0)
    w, off = (torch.from_numpy(draw.uniform(0.1, 1, 20)) for _ in range(2))
    w = w / w.sum()
    if share == 0.3:
        w[:15] *= 10  # the target begins with less
        w = w / w.sum()
    found = tradaboost_r2.shifted(w, off, 15, share)
    assert float(found[15:].sum()) == pytest.approx(share, abs=1e-6)
    assert float(found.sum()) == pytest.approx(1)
    if share < 1:
        shift = (found[15:] / w[15:]).log()[0]
        powers = ((found[:15] / w[:15]).log() - shift) / off[:15]  # log(beta), the same for all
        torch.testing.assert_close(powers, powers[0].expand(15))


def test_two_stages_keep_the_step_of_the_least_error():
    one = method("method.rounds=5", "method.steps=4")
    one.fit(domains())
    found = one.findings([])
    assert len(found["validated"]) == 4
    assert found["validated"][found["step"] - 1] == min(found["validated"])


# ---- runs, their record and what reads it


@pytest.mark.parametrize("name", cases(for_numbers(), ("tradaboost_r2", "coral", "kmm")))
def test_a_run_predicts_numbers_and_says_them_again(name, tl_run, files, tmp_path, capfd):
    run = tmp_path / "run"
    words = (f"method={name}", "method.learner=ridge", "method.scale=null", "data.target_labels=40")
    words += ("method.rounds=5", "method.steps=3") if name == "tradaboost_r2" else ()
    ended = tl_run(*WORDS, *files, *words, f"hydra.run.dir={run}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert (result["metric"], result["classes"]) == ("rmse", [])
    assert result["metrics"]["target_test"]["r2"] > 0.6
    assert {"rmse", "mae", "r2"} == result["intervals"]["target_test"].keys()
    assert f"{result['score']:.4g}" in ended.text
    assert (run / "figures" / "numbers_target_test.png").exists()
    with np.load(run / "predictions.npz") as kept:
        values, labels = kept["target_test/values"], kept["target_test/labels"]
    assert np.sqrt(((values - labels) ** 2).mean()) == pytest.approx(result["score"], rel=1e-5)
    x, _ = made(150, seed=1)
    np.savez(tmp_path / "again.npz", x=x)
    with pytest.raises(SystemExit) as told:
        predict([str(run), str(tmp_path / "again.npz"), "--format", "csv"])
    assert told.value.code == 0
    head, *said = csv.reader(capfd.readouterr().out.splitlines())
    assert head == ["file", "value"]
    with np.load(run / "predictions.npz") as kept:
        ids = kept["target_test/ids"]
    np.testing.assert_allclose([float(said[i][1]) for i in ids], values, rtol=1e-4)


def test_numbers_are_exported(tl_run, files, tmp_path, capfd):
    run, file = tmp_path / "run", tmp_path / "net.pt2"
    assert (
        tl_run(
            *WORDS, *files, "method=tradaboost_r2", "method.stages=1", f"hydra.run.dir={run}"
        ).code
        == 0
    )
    with pytest.raises(SystemExit) as told:
        predict([str(run), "--export", str(file)])
    said = capfd.readouterr()
    assert told.value.code == 0, said.err
    assert "in the numbers" in said.err
    x = torch.from_numpy(made(4, seed=1)[0]).float()
    (found,) = torch.export.load(file).module()(x)
    assert found.shape == (4, 1)


def test_the_report_knows_that_less_is_better(tl_run, files, tmp_path, capfd):
    words = (*WORDS, *files, "method.learner=ridge", "data.target_labels=20", "figures=false")
    assert (
        tl_run(
            "-m",
            *words,
            "method=no_transfer,coral",
            "seed=0,1",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
        ).code
        == 0
    )
    table = rows(collect([tmp_path / "sweep"]))
    assert {row.metric.quantity for row in table} == {"rmse"}
    assert min(table, key=lambda row: row.mean).best
    capfd.readouterr()
    with pytest.raises(SystemExit) as told:
        report([str(tmp_path / "sweep"), "-o", str(tmp_path / "page.html")])
    assert told.value.code == 0
    assert "rmse" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ("method=no_transfer", "method.learner=1nn"),
        ("method=tca", "method.kernel=rbf", "method.learner=ridge"),
    ],
)
def test_features_far_from_zero_are_predicted_and_exported(words, tl_run, tmp_path, capfd):
    """In single precision a distance by products is lost unless the rows are centred."""
    files = []
    for name, seed in (("source", 0), ("target", 1)):
        x, y = made(150, seed=seed, d=3)
        np.savez(tmp_path / f"{name}.npz", x=x + 1e4, y=y)
        files.append(f"data.{name}_file={tmp_path / name}.npz")
    run = tmp_path / "run"
    assert (
        tl_run(
            *WORDS,
            *files,
            *words,
            "method.scale=null",
            "data.standardise=false",
            f"hydra.run.dir={run}",
        ).code
        == 0
    )
    (result,) = results(tmp_path)
    assert result["metrics"]["target_test"]["r2"] > 0.7
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    with pytest.raises(SystemExit) as told:
        predict([str(run), "--export", str(tmp_path / "net.onnx")])
    assert told.value.code == 0, capfd.readouterr().err


def test_domains_with_numbers_are_compared(files, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(alike_run, "HALVES", 3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as told:
        alike.main([*WORDS, *files, "data.target_labels=all", "-o", str(tmp_path / "said.json")])
    said = capfd.readouterr()
    assert told.value.code == 0, said.err
    (one,) = json.loads((tmp_path / "said.json").read_text())["candidates"]
    assert one["distances"]
    assert not one["scores"]


def test_of_an_error_less_is_a_gain(tmp_path):
    for data in ("a2b", "b2a", "c2d", "d2c", "e2f"):
        far = ord(data[0]) / 100
        for method, error in (("source_only", 2.0), ("dan", 2.0 - far)):
            made_up_run(
                tmp_path / f"{data}-{method}",
                method,
                0,
                error,
                data=data,
                metric="rmse",
                a_distance={"before": far},
            )
    table = rows(collect([tmp_path]), "score")
    assert min(point.gain for point in points(table, "a_distance")) > 0
    (found,) = correlations(table)
    assert (found.tau, found.data) == (pytest.approx(1), 5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("method=dann", "backbone=mlp"),
            "tells classes apart, and the labels of this data are numbers",
        ),
        (("method=tradaboost",), "tradaboost_r2"),
        (("method=jda",), "no_transfer"),
        (("method=tca",), "choose one of 1nn, svm, ridge, mlp"),
        (("method=kmm", "method.learner=logistic"), "choose one of svm, ridge"),
        (("method=tca", "method.learner=ridge", "backbone=mlp"), "set backbone=raw"),
        (("method=no_transfer", "method.learner=ridge", "selection=oracle"), "goes by classes"),
        (("method=no_transfer", "method.learner=ridge", "train.balance=weights"), "is of classes"),
        (("method=kmm", "method.learner=1nn"), "choose one of svm, ridge"),
        (("method=tradaboost_r2", "method.stages=3"), "one of 1, 2"),
    ],
)
def test_what_cannot_say_a_number_is_told(words, said, tl_run, files, tmp_path):
    ended = tl_run(*WORDS, *files, "data.target_labels=20", *words)
    assert ended.code == 2
    assert said in " ".join(ended.err.split())
    assert not (tmp_path / "outputs").exists()


def test_what_says_numbers_is_not_asked_for_classes(tl_run):
    ended = tl_run("method=tradaboost_r2", "device=cpu", "data.target_labels=2")
    assert ended.code == 2
    assert "y of floats" in ended.err
