"""``tl-predict --evaluate``, ``--errors``, ``--unsure`` and ``--calibrate``."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

import tl_runner
from support.encoders import reviews, write_table
from tl_runner.errors import CheckpointError, UserError
from tl_runner.predict import calibration, evaluation
from tl_runner.predict.run import Found


def lines(file):
    with open(file, newline="", encoding="utf-8") as content:
        return list(csv.DictReader(content))


def test_the_report_is_scikit_learns_on_the_same_files(trained, tl_predict, tmp_path):
    run, root = trained
    ended = tl_predict(run, root, "--evaluate", "-o", tmp_path / "all.csv")
    assert ended.code == 0, ended.text
    rows = lines(tmp_path / "all.csv")
    true, predicted = [row["true"] for row in rows], [row["class"] for row in rows]
    assert true == [Path(row["file"]).parent.name for row in rows]
    report = json.loads(tl_predict(run, root, "--evaluate", "--format", "json").out)
    classes = report["classes"]
    assert report["samples"] == len(rows) == 60
    assert report["metrics"]["accuracy"] == accuracy_score(true, predicted)
    assert report["confusion"] == confusion_matrix(true, predicted, labels=classes).tolist()
    expected = precision_recall_fscore_support(true, predicted, labels=classes, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        np.testing.assert_allclose(report["per_class"][name], values)
    low, high = report["intervals"]["accuracy"]
    assert low <= report["metrics"]["accuracy"] <= high
    assert f"accuracy {100 * report['metrics']['accuracy']:.1f} %" in ended.out
    assert all(name in ended.out for name in (*classes, "most often taken for"))


def test_labels_are_the_folders_wherever_one_begins(trained, tl_predict, tmp_path):
    run, root = trained
    deep = tmp_path / "set"
    shutil.copytree(root, deep / "test")
    shutil.copytree(root / "cat", deep / "test" / "gnu")
    shutil.copy(root / "cat" / "0.png", deep / "loose.png")
    ended = tl_predict(run, deep, "--evaluate", "--format", "json")
    report = json.loads(ended.out)
    assert report["samples"] == 60
    assert "1 pictures without a label are left out" in ended.err
    assert "20 pictures of classes that the run does not know are left out: gnu" in ended.err
    alone = json.loads(tl_predict(run, root / "cat", "--evaluate", "--format", "json").out)
    assert np.array(alone["confusion"]).sum(1).tolist() == [20, 0, 0]
    ended = tl_predict(run, deep / "loose.png", "--evaluate")
    assert ended.code == 2
    assert "no label to compare with" in ended.err


def test_wrong_pictures_are_copied_by_cell_the_surest_first(trained, tl_predict, tmp_path):
    run, root = trained
    wrong = tmp_path / "wrong"
    ended = tl_predict(run, root, "--errors", wrong, "-o", tmp_path / "all.csv")
    assert ended.code == 0, ended.text
    said = [row for row in lines(tmp_path / "all.csv") if row["class"] != row["true"]]
    listed = lines(wrong / "errors.csv")
    assert sorted(row["file"] for row in listed) == sorted(row["file"] for row in said)
    sure = [float(row["probability"]) for row in listed]
    assert sure == sorted(sure, reverse=True)
    copies = [*wrong.rglob("*.png")]
    assert len(copies) == len(listed) > 0
    row = listed[0]
    (copy,) = (wrong / f"{row['true']} as {row['predicted']}").glob(
        f"{100 * sure[0]:04.1f} {Path(row['file']).name}"
    )
    assert copy.read_bytes() == Path(row["file"]).read_bytes()
    again = tl_predict(run, root, "--errors", wrong)
    assert again.code == 2
    assert "is not empty: name a new folder" in again.err


def test_a_class_of_a_strange_name_leads_nowhere(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"a picture")
    found = Found([file], np.array([[0.2, 0.8]], dtype=np.float32), {})
    classes = ["../../up", "/etc"]
    result = evaluation.evaluate(found, {file: "../../up"}, classes, "pictures")
    evaluation.write_errors(tmp_path / "wrong", found, result, classes, copy=True)
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "wrong"}
    (cell,) = (p for p in (tmp_path / "wrong").iterdir() if p.is_dir())
    assert cell.name == "__.._up as _etc"


def test_the_unsure_are_marked(trained, tl_predict, tmp_path):
    run, root = trained
    ended = tl_predict(run, root, "--unsure", "0.6", "-o", tmp_path / "all.csv")
    rows = lines(tmp_path / "all.csv")
    unsure = [row for row in rows if row["sure"] == "no"]
    assert all((float(row["probability"]) < 0.6) == (row["sure"] == "no") for row in rows)
    assert f"{len(unsure):,} of 60 below 0.6: unsure" in ended.err
    table = tl_predict(run, root, "--unsure", "0.6").out
    assert table.count("unsure") == len(unsure)
    entries = json.loads(tl_predict(run, root, "--unsure", "0.6", "--format", "json").out)
    assert [entry["sure"] for entry in entries] == [row["sure"] == "yes" for row in rows]


def test_labels_of_texts_and_of_vectors(tl_run, tl_predict, tmp_path):
    table = reviews(tmp_path / "t.csv", 60, 1)
    words = ("debug=smoke", "device=cpu", "figures=false", "data.target_labels=all")
    ended = tl_run(
        *(*words, "method=target_only", "data=texts", f"data.target_file={table}"),
        *("backbone=tfidf", f"hydra.run.dir={tmp_path / 'texts'}"),
    )
    assert ended.code == 0, ended.text
    new = write_table(
        tmp_path / "new.csv",
        [{"text": "a lovely film", "label": "good"}, {"text": "awful", "label": ""}],
    )
    ended = tl_predict(tmp_path / "texts", new, "--evaluate", "--format", "json")
    assert ended.code == 0, ended.text
    assert json.loads(ended.out)["samples"] == 1
    assert "1 texts without a label are left out" in ended.err
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.savez(tmp_path / "v.npz", x=x, y=x[:, 0])
    ended = tl_run(
        *(*words, "method=no_transfer", "method.learner=ridge", "data=arrays", "backbone=raw"),
        *(f"data.{domain}_file={tmp_path / 'v.npz'}" for domain in ("source", "target")),
        f"hydra.run.dir={tmp_path / 'numbers'}",
    )
    assert ended.code == 0, ended.text
    ended = tl_predict(
        tmp_path / "numbers", tmp_path / "v.npz", "--evaluate", "-o", tmp_path / "p.csv"
    )
    rows = lines(tmp_path / "p.csv")
    error = np.sqrt(np.mean([(float(r["value"]) - float(r["true"])) ** 2 for r in rows]))
    assert f"rmse {error:.4g}"[:9] in ended.out
    np.testing.assert_allclose([float(r["true"]) for r in rows], x[:, 0])
    for option in ("--calibrate", "--errors"):
        more = [] if option == "--calibrate" else [tmp_path / "v.npz", tmp_path / "wrong"]
        refused = tl_predict(tmp_path / "numbers", *more[:1], option, *more[1:])
        assert refused.code == 2
        assert "predicts numbers" in refused.err


def test_the_temperature_is_the_least_of_all():
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=500)
    logits = 4 * (draw.normal(size=(500, 3)) + 1.2 * np.eye(3)[labels])
    found = calibration.fit(logits, labels)

    def loss(t):
        return -calibration.log_softmax(logits / t)[np.arange(500), labels].mean()

    grid = np.geomspace(0.05, 20, 4001)
    assert abs(np.log(found / grid[np.argmin([loss(t) for t in grid])])) < 2e-3
    assert found > 2  # logits that are four times too large
    assert calibration.fit(np.eye(3)[labels] * 9, labels) == pytest.approx(calibration.LOWEST)


def test_a_run_keeps_its_temperature_and_predictions_use_it(trained, tl_predict, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    before = [json.loads(tl_predict(run, trained[1], "--format", "json").out)]
    ended = tl_predict(run, "--calibrate")
    assert ended.code == 0, ended.text
    assert "samples of target_val" in ended.err
    kept = json.loads((run / "calibration.json").read_text())["temperature"]
    _, logits, labels = calibration.validation(run, 3)
    assert kept == calibration.fit(logits, labels)
    told = tl_predict(run, trained[1], "--format", "json")
    after = json.loads(told.out)
    assert "calibrated: temperature" in told.err
    for old, new in zip(before[0], after, strict=True):
        assert old["class"] == new["class"]
        p = np.array([*old["probabilities"].values()])
        q = p ** (1 / kept)
        np.testing.assert_allclose([*new["probabilities"].values()], q / q.sum(), atol=2e-4)
    for damage in (
        "{}",
        '{"temperature": -1.0}',
        '{"temperature": NaN}',
        "[",
        '{"temperature": true}',
    ):
        (run / "calibration.json").write_text(damage)
        with pytest.raises(CheckpointError, match="holds no temperature above 0"):
            calibration.temperature_of(run)
    (run / "predictions.npz").write_bytes(b"PK")
    with pytest.raises(UserError, match="cannot be read"):
        calibration.validation(run, 3)
    np.savez(
        run / "predictions.npz", **{"target_test/logits": logits, "target_test/labels": labels}
    )
    with pytest.raises(UserError, match="kept no predictions of validation samples"):
        calibration.validation(run, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--unsure", "60"], "a probability between 0 and 1"),
        (["--features", "--evaluate"], "--features are no classes"),
        (["--calibrate", "--evaluate"], "leave out files and other options"),
        (["--workers", "-1"], "at least 0"),
    ],
)
def test_options_that_do_not_go_together(trained, tl_predict, words, said):
    ended = tl_predict(trained[0], trained[1], *words)
    assert ended.code == 2
    assert said in ended.err


def test_a_run_loaded_in_python_predicts_as_the_command_does(trained, tl_predict):
    pytest.importorskip("pandas")
    run, root = trained
    said = json.loads(tl_predict(run, root / "cat", "--format", "json").out)
    loaded = tl_runner.load(run)
    found = loaded.predict(root / "cat")
    assert not loaded.model.training
    assert found["file"].tolist() == [row["file"] for row in said]
    assert found["prediction"].tolist() == [row["class"] for row in said]
    p = [[*row["probabilities"].values()] for row in said]
    np.testing.assert_allclose(found.iloc[:, 2:].to_numpy(), p, atol=1e-6)


def test_what_is_undefined_is_no_number_and_training_data_are_said(trained, tl_predict):
    run, root = trained
    ended = tl_predict(run, root / "cat", "--evaluate")
    assert "mean recall of the 1 classes there are" in ended.out
    (row, _) = (line.split() for line in ended.out.splitlines() if line.startswith("emu"))
    assert row[2:4] == ["–", "–"]
    assert "this is data.target_dir of the run itself, which learned from a part of it" in ended.err
    alone = tl_predict(run, root / "cat" / "0.png", "--evaluate")
    assert "[" not in alone.out.splitlines()[0]


def test_a_case_that_differs_is_named(trained, tl_predict, tmp_path):
    run, root = trained
    shutil.copytree(root / "cat", tmp_path / "set" / "Cat")
    ended = tl_predict(run, tmp_path / "set", "--evaluate")
    assert ended.code == 2
    assert "does not know are left out: Cat. Did you mean 'cat'?" in ended.err


def test_few_samples_to_calibrate_by_are_said(trained, tl_predict, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    assert "Do not trust it far" in tl_predict(run, "--calibrate").err
