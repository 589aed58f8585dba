"""tl-similarity as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from support.reports import made_up_run
from support.runs import TINY
from tl_runner.cli import similarity as cli
from tl_runner.similarity import compare as run
from tl_runner.similarity import distances as domains

WORDS = ("data=fonts2digits", "data.per_face=2", "device=cpu", "device.threads=1")


@pytest.fixture
def similarity(capfd, tmp_path, monkeypatch):
    """``similarity(*words)``: (exit code, stdout, stderr) in an empty folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr(run, "HALVES", 4)
    monkeypatch.setattr(run, "COSTLY", 3)
    small = [replace(m, sample_limit=m.sample_limit and 150) for m in run.MEASURES]
    monkeypatch.setattr(run, "MEASURES", small)
    monkeypatch.setattr(run, "BY_NAME", {m.name: m for m in small})

    def command(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        said = capfd.readouterr()
        return ended.value.code, said.out, said.err

    return command


def test_two_domains_side_by_side_under_several_features(similarity, tmp_path):
    code, out, err = similarity(
        *WORDS, "backbone=raw,lenet", "data.target_labels=all", "-o", tmp_path / "said.json"
    )
    assert code == 0, err
    assert not out
    found = json.loads((tmp_path / "said.json").read_text())
    raw, lenet = found["candidates"]
    assert (raw["name"], lenet["name"]) == ("raw", "lenet")
    assert "random weights" in lenet["note"]
    assert not raw["note"]
    for one in (raw, lenet):
        assert one["distances"].keys() == {
            "mmd",
            "coral",
            "wasserstein",
            "sliced_wasserstein",
            "a_distance",
        }
        assert one["scores"].keys() == {"logme", "h_score", "leep", "nce", "linear_probe"}
        assert one["p"] < 0.05
        told = {name: score for name, score in one["scores"].items() if name != "h_score"}
        for measure in (*one["distances"].values(), *told.values()):
            assert measure["low"] <= measure["value"] <= measure["high"]
    raw_h, lenet_h = raw["scores"]["h_score"], lenet["scores"]["h_score"]
    # 784 pixels of 600 images, a half of them: anything explains everything
    assert raw_h["low"] is None
    assert lenet_h["low"] < lenet_h["value"] < lenet_h["high"]
    assert found["suggestion"] is None


def test_without_target_labels_it_says_how_to_get_scores(similarity, tmp_path):
    (tmp_path / "empty" / "outputs").mkdir()  # where no run has ended yet
    code, out, err = similarity(*WORDS, "backbone=raw")
    assert code == 0, err
    assert "proxy A-distance" in out
    assert "LogME" not in out
    assert "data.target_labels=all" in out


def test_a_finished_run_is_a_candidate(similarity, tl_run, tmp_path):
    assert (
        tl_run(
            *TINY, "method=source_only", "data.per_face=2", f"hydra.run.dir={tmp_path / 'mine'}"
        ).code
        == 0
    )
    code, _, err = similarity(
        *WORDS, "data.target_labels=all", "--run", tmp_path / "mine", "-o", tmp_path / "said.json"
    )
    assert code == 0, err
    (one,) = json.loads((tmp_path / "said.json").read_text())["candidates"]
    assert one["name"] == "mine"
    assert one["note"].startswith("source_only on fonts2digits")


def test_the_figure_is_drawn(similarity, tmp_path):
    assert similarity(*WORDS, "backbone=raw", "-o", tmp_path / "figure.png")[0] == 0
    with Image.open(tmp_path / "figure.png") as image:
        assert image.size[0] > 1000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backbone=rwa",), "Did you mean 'raw'?"),
        (("method=dan",), "nothing is trained"),
        (("fonts2digits",), "write KEY=VALUE"),
        (("data=nothing",), "no such data"),
        (("data=mnist",), "tl-similarity needs a source domain"),
        (("data=fonts2digits", "data.size=20"), "no such key"),
        (("--samples", "3"), "at least 20"),
        (("--format", "pdf"), "no such format"),
        (("--format", "png"), "Add -o"),
        (("-o", "nowhere/x.json"), "there is no folder nowhere"),
        (("-o", "x.txt"), "should end in .json or .png"),
        (("--run", "nowhere"), "there is no such folder"),
        (("--recorded", "nowhere"), "there is no such folder"),
        (("--runs",), "See tl-similarity --help"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(similarity, words, said):
    code, out, err = similarity(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_help_needs_no_torch():
    code = (
        "import sys; from tl_runner.cli import similarity; similarity.parser().format_help(); "
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_recorded_runs_make_a_suggestion(tmp_path):
    near = [run.Found("raw", "", {}, as_recorded=1.5)]
    for number, data in enumerate("abcdef"):
        made_up_run(tmp_path / f"{data}-s", "source_only", 0, 0.5, data=data)
        made_up_run(
            tmp_path / f"{data}-d",
            "dan",
            0,
            0.5 + 0.01 * number,
            data=data,
            a_distance={"before": 1.4},
        )
    said = run.suggestion(near, [tmp_path])
    assert "in 6 recorded groups" in said
    assert "+1.2 to +3.8 points (quartiles; median +2.5) and lost in 0" in said
    assert run.suggestion([run.Found("raw", "", {}, as_recorded=0.2)], [tmp_path]) == ""
    assert run.suggestion(near, []) == ""


def test_the_interval_has_the_width_of_the_estimators_own_deviation():
    """Of a mean, whose deviation is known."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(400, 1))
    halves = run.interval(lambda a: float(a.mean()), [x])
    assert (halves.high - halves.low) / 2 == pytest.approx(1.96 / 20, rel=0.4)
    large = run.interval(lambda a: float(a.mean()), [draw.normal(size=(20_000, 1))])
    assert (large.high - large.low) / 2 == pytest.approx(1.96 / 20_000**0.5, rel=0.4)
    source, target = draw.normal(size=(300, 3)), draw.normal(size=(300, 3)) + 1
    two = run.interval(domains.wasserstein, [source, target], paired=False)
    assert two.low < 1 < two.high
