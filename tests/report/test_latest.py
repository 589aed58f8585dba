"""``last``, ``tl-report --list``, and the Python interface: the same runs, without their paths."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest

import tl_runner
from support.runs import TINY
from tl_runner.cli import report
from tl_runner.cli.run import main
from tl_runner.errors import UserError
from tl_runner.files import held
from tl_runner.report.latest import named
from tl_runner.report.listing import began, label, varied
from tl_runner.report.runs import collect


def aged(folder, hours):
    """The folder as if its run had begun so long ago."""
    for file in folder.iterdir():
        then = file.stat().st_mtime - 3600 * hours
        os.utime(file, (then, then))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two runs under ``outputs``, the second an hour younger; the working folder is theirs."""
    place = tmp_path_factory.mktemp("two")
    before = os.getcwd()
    os.chdir(place)
    for seed in (0, 1):
        words = [*TINY, "method=source_only", f"seed={seed}", f"hydra.run.dir=outputs/run{seed}"]
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code in (0, None)
    aged(place / "outputs" / "run0", hours=1)
    yield place
    os.chdir(before)


@pytest.fixture
def here(two, monkeypatch):
    monkeypatch.chdir(two)
    return two


def test_last_is_the_newest_unless_a_folder_has_that_name(here, tmp_path, monkeypatch):
    assert named("last") == named("last", done=True) == here.__class__("outputs/run1")
    assert named("outputs/run0").name == "run0"
    aged(here / "outputs" / "run1", hours=5)
    assert named("last").name == "run0"
    aged(here / "outputs" / "run1", hours=-5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no finished run under"):
        named("last", done=True)
    (tmp_path / "last").mkdir()
    assert named("last").name == "last"


def test_commands_take_last(here, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["resume=last"])
    assert ended.value.code in (0, None)
    assert "run1 is done already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        report.main(["last", "--format", "json"])
    assert len(json.loads(capsys.readouterr().out)["groups"]) == 1


def test_the_list_is_newest_first_and_says_how_each_stands(here, capsys):
    started = here / "outputs" / "going"
    (started / ".hydra").mkdir(parents=True, exist_ok=True)
    for name in ("hydra.yaml", "overrides.yaml", "config.yaml"):
        (started / ".hydra" / name).write_text((here / "outputs/run1/.hydra" / name).read_text())
    rows = (here / "outputs/run1/metrics.jsonl").read_text().splitlines()
    (started / "metrics.jsonl").write_text(rows[0] + "\n")
    with held(started), pytest.raises(SystemExit) as ended:
        report.main(["--list", "--format", "csv"])
    assert ended.value.code == 0
    lines = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][-1] == "folder"
    assert [line[-1] for line in lines[1:]] == [f"outputs/{n}" for n in ("going", "run1", "run0")]
    assert "running" in ",".join(lines[1])
    assert json.loads(rows[0])["phase"] in ",".join(lines[1])
    assert "done" in lines[2]
    assert "1 h" in lines[3]
    runs = {run.folder.name: run for run in collect(["outputs"])}
    assert runs["going"].status == "interrupted"  # nobody holds it any more
    assert began(runs["run0"]) < began(runs["run1"])


def test_a_run_is_named_by_what_its_kind_differs_in(here):
    runs = [run for run in collect(["outputs"]) if run.folder.name != "going"]
    assert label(runs[0], varied(runs)) == "source_only fonts2digits, seed 0"
    assert "hydra" not in label(runs[1], varied(runs))
    other = replace(runs[1], overrides={"train.lr": "3", "debug": "smoke"})
    assert varied([runs[0], other]) >= {"train.lr"}
    assert "lr 3" in label(other, varied([runs[0], other]))


def test_frames_hold_what_the_files_say(here):
    pytest.importorskip("pandas")
    table = tl_runner.runs("outputs/run0", "outputs/run1")
    assert table["seed"].tolist() == [0, 1]
    run = tl_runner.load("outputs/run1")
    result = json.loads((here / "outputs/run1/result.json").read_text())
    accuracy = result["metrics"]["target_test"]["accuracy"]
    assert table["target_test.accuracy"][1] == accuracy
    assert run.result == result
    lines = (here / "outputs/run1/metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(run.history) == sum("step" in row for row in rows)
    said = run.predictions()
    assert (said["label"] == said["prediction"]).mean() == pytest.approx(accuracy)
    with np.load("outputs/run1/predictions.npz") as arrays:
        p = arrays["target_test/probabilities"]
    np.testing.assert_array_equal(said[[f"p({c})" for c in run.classes()]].to_numpy(), p)
    with pytest.raises(UserError, match="no predictions of nowhere"):
        run.predictions("nowhere")
    with pytest.raises(UserError, match=r"holds \d runs"):
        tl_runner.load("outputs")
