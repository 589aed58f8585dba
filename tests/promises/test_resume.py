"""Killed at any moment and resumed: weights, metrics and predictions to the bit as if nothing had
happened."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch
import yaml

from support.kills import SETTINGS, drive, interrupted
from support.runs import TINY
from support.same_runs import assert_same, content

# pretrain is steps 1-8, adapt 9-16; the phases end after 2 epochs of 4 steps
DEFAULT = [("step", 7), ("evaluation", 4), ("checkpoint", 3)]
SLOW = [
    ("step", 2),
    ("step", 5),
    ("step", 10),
    ("step", 14),
    ("step", 16),
    ("evaluation", 8),
    ("evaluation", 1),
    ("checkpoint", 1),
    ("checkpoint", 5),
    ("checkpoint", 6),
    ("renamed", 2),
    ("renamed", 6),
]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("untouched") / "run"
    assert drive("never", 0, folder) == 0
    return folder


def _kill_and_resume(untouched, tl_run, tmp_path, place, number):
    folder = tmp_path / "a run, with [brackets]=and more"
    assert drive(place, number, tmp_path / "killed") == -signal.SIGKILL
    (tmp_path / "killed").rename(folder)  # its path is not part of it
    assert not (folder / "result.json").exists()
    before = {p.name: p.read_bytes() for p in (folder / ".hydra").iterdir()}
    assert len(before) == 3
    ended = tl_run(f"resume={folder}")
    assert before == {p.name: p.read_bytes() for p in (folder / ".hydra").iterdir()}
    assert not list(folder.rglob("*.tmp"))
    return folder, ended


@pytest.mark.parametrize(("place", "number"), DEFAULT)
def test_killed_and_resumed_is_the_same_to_the_bit(untouched, tl_run, tmp_path, place, number):
    folder, ended = _kill_and_resume(untouched, tl_run, tmp_path, place, number)
    assert ended.code == 0, ended.text
    assert_same(untouched, folder)


@pytest.mark.slow
@pytest.mark.parametrize(("place", "number"), SLOW)
def test_killed_anywhere(untouched, tl_run, tmp_path, place, number):
    folder, ended = _kill_and_resume(untouched, tl_run, tmp_path, place, number)
    assert ended.code == 0, ended.text
    assert_same(untouched, folder)


def test_the_same_command_twice_is_the_same_to_the_bit(untouched, tl_run, tmp_path):
    ended = tl_run(*SETTINGS, f"hydra.run.dir={tmp_path / 'again'}")
    assert ended.code == 0, ended.text
    assert_same(untouched, tmp_path / "again")


def test_another_seed_is_another_run(untouched, tl_run, tmp_path):
    assert tl_run(*SETTINGS, "seed=8", f"hydra.run.dir={tmp_path / 'other'}").code == 0
    weights = content(untouched)[0], content(tmp_path / "other")[0]
    assert not torch.equal(weights[0]["head.weight"], weights[1]["head.weight"])


@pytest.mark.parametrize("after", [3, 12])
def test_interrupted_by_sigint_it_writes_a_checkpoint_inside_the_epoch(
    untouched, tl_run, tmp_path, monkeypatch, after
):
    ended = interrupted(tl_run, monkeypatch, after, *SETTINGS, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 130, ended.text
    assert "resume=" in ended.err
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"
    assert tl_run(f"resume={tmp_path / 'run'}").code == 0
    assert_same(untouched, tmp_path / "run")


@pytest.mark.parametrize(
    "words",
    [
        # pseudo-labels of the epoch's start
        ("method=shot", "backbone.bn=domain_specific", "data.target_labels=2", "selection=im"),
        ("method=dann",),  # lambda goes by the phase's progress
        # an encoder at rest keeps its last learning rate
        (
            "method=adda",
            "method.adapt.gate=1",
            "method.adapt.gate_window=2",
            "train.optimizer.schedule=linear",
        ),
        pytest.param(
            ("method=adabn", "method.adapt.epochs=2", "method.adapt.steps_per_epoch=4"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=mcd", "backbone.bn=domain_specific", "backbone.dropout=0.3", "selection=dev"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=drcn", "backbone.bn=concat", "data.target_labels=2"), marks=pytest.mark.slow
        ),
        pytest.param(("method=cdan_e", "backbone.bn=frozen"), marks=pytest.mark.slow),
        pytest.param(("method=linear_probe", "data.target_labels=3"), marks=pytest.mark.slow),
        pytest.param(
            ("method=lwf", "data.target_labels=3", "method.warm_up.epochs=1"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=l2_sp", "data.target_labels=3", "method.gradual=true", "method.freeze=1"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("method=lora", "data.target_labels=3"), marks=pytest.mark.slow),
        (
            "method=finetune",
            "data.target_labels=3",
            "train.ema=0.9",
            "train.accumulate=2",
            "train.mixup=0.2",
            "train.cutmix=1.0",
            "train.balance=sampling",
            "train.optimizer.clip_norm=0.5",
            "backbone.batch_norm=true",
        ),
        pytest.param(("method=delta", "data.target_labels=3"), marks=pytest.mark.slow),
        pytest.param(
            ("method=wise_ft", "data.target_labels=3", "method.points=3"), marks=pytest.mark.slow
        ),
        pytest.param(
            ("method=autoencoder", "data.target_labels=3", "method.select=l1"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("method=ensemble", "data.target_labels=3", "method.pretrain.patience=1"),
            marks=pytest.mark.slow,
        ),
        *[
            pytest.param(
                (
                    "method=multitask",
                    f"method.weighting={w}",
                    "method.baselines=false",
                    "train.epochs=4",
                ),
                marks=pytest.mark.slow,
            )
            for w in ("uncertainty", "dwa", "gradnorm", "pcgrad")
        ],
        *[
            pytest.param(
                (f"method={m}", "data.target_labels=3", "method.distil.augment=false"),
                marks=pytest.mark.slow,
            )
            for m in ("kd", "fitnet", "attention_transfer", "rkd", "multi_teacher")
        ],
        pytest.param(
            ("method=self_distill", "method.generations=1", "method.distil.augment=false"),
            marks=pytest.mark.slow,
        ),
        pytest.param(("method=jan", "method.pretrain.epochs=0"), marks=pytest.mark.slow),
    ],
    ids=lambda words: words[0],
)
def test_methods_go_on_inside_an_epoch_of_adaptation(tl_run, tmp_path, monkeypatch, words):
    assert tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'whole'}").code == 0
    after = 3 if "method.pretrain.epochs=0" in words else 14 if "train.epochs=4" in words else 11
    ended = interrupted(
        tl_run, monkeypatch, after, *TINY, *words, f"hydra.run.dir={tmp_path / 'cut'}"
    )
    assert ended.code == 130, ended.text
    assert tl_run(f"resume={tmp_path / 'cut'}").code == 0
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_a_run_that_is_done_is_left_alone(tl_run, tmp_path):
    assert tl_run(*TINY, "method=source_only", f"hydra.run.dir={tmp_path / 'run'}").code == 0
    before = (tmp_path / "run" / "result.json").read_bytes()
    ended = tl_run(f"resume={tmp_path / 'run'}")
    assert ended.code == 0
    assert "done already" in ended.text
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_a_scheduler_that_handles_a_signal_hears_it_after_the_checkpoint(monkeypatch):
    """Made up: what submitit does, which takes SIGUSR2 as the sign that a job's time is nearly
    up."""
    from tl_runner.training.interrupt import Interrupt

    heard = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: heard.append(number))
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGUSR2)
            assert interrupt.requested
            assert not heard  # the step is finished and the checkpoint written first
        assert heard == [signal.SIGUSR2]
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGTERM)
            assert interrupt.requested
        assert len(heard) == 1
    finally:
        signal.signal(signal.SIGUSR2, before)


def recorded(folder: Path, sweep: bool, config_dir: Path | None, overrides: list[str]) -> Path:
    """A folder that says which command it was begun by, as somebody may have sent it."""
    if sweep:
        folder.mkdir(parents=True)
        content = {
            "command": [],
            "overrides": overrides,
            "config_dir": str(config_dir) if config_dir else None,
            "jobs": [],
        }
        (folder / "sweep.json").write_text(json.dumps(content))
        return folder
    (folder / ".hydra").mkdir(parents=True)
    sources = [{"provider": "command-line", "path": str(config_dir)}] if config_dir else []
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    (folder / ".hydra" / "hydra.yaml").write_text(
        yaml.safe_dump({"hydra": {"runtime": {"config_sources": sources}}})
    )
    return folder


@pytest.mark.parametrize("sweep", [True, False], ids=["sweep", "run"])
def test_configs_that_came_with_a_folder_are_not_composed(tl_run, tmp_path, sweep):
    own = tmp_path / "sent" / "configs" / "method"
    folder = recorded(tmp_path / "sent", sweep, own.parent, [*TINY, "method=mine"])
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("# Mine.\ndefaults:\n  - source_only\n  - _self_\n")
    before = sorted(folder.rglob("*"))
    ended = tl_run(f"resume={folder}")
    assert ended.code == 2
    assert "inside that folder" in ended.err
    assert sorted(folder.rglob("*")) == before  # nothing was begun


def test_a_recorded_command_brings_no_other_place_of_configs(tl_run, tmp_path):
    folder = recorded(
        tmp_path / "sent", True, None, [*TINY, f"hydra.searchpath=[file://{tmp_path}]", "seed=0,1"]
    )
    ended = tl_run(f"resume={folder}")
    assert ended.code == 2
    assert "would compose configs of hydra.searchpath" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        (*TINY, "method.name=came_along.mine"),
        (*TINY, "backbone.name=came_along.mine"),
        ("data=digits_multi", "data.source=came_along.mine"),
        ("data=digits_multi", "data.source=[fonts,came_along.mine]"),
    ],
    ids=lambda words: words[-1],
)
@pytest.mark.parametrize("sweep", [True, False], ids=["sweep", "run"])
def test_modules_that_came_with_a_folder_are_not_imported(
    tl_run, tmp_path, monkeypatch, sweep, words
):
    folder = recorded(tmp_path / "sent", sweep, None, ["method=source_only", *words])
    (folder / "came_along.py").write_text("raise SystemExit('it was imported')\n")
    monkeypatch.syspath_prepend(str(folder))
    ended = tl_run(f"resume={folder}")
    assert ended.code == 2
    assert "code that came with its folder, which is not run" in ended.err


@pytest.mark.parametrize(
    "word",
    ["hydra.launcher._target_=mine.Launcher", "hydra.callbacks={a:{_target_:mine.Callback}}"],
)
def test_a_config_names_no_code_to_run(tl_run, word):
    ended = tl_run(*TINY, word)
    assert ended.code == 2
    assert "names no code to run" in ended.err
