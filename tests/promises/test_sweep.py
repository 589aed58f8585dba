"""Sweeps: every job on record, failures that stop nobody, resume that repeats nothing, and a table
that is the same in the end."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
from pathlib import Path

import pytest

from support.covers import cases
from support.kills import killed
from support.runs import TINY, results
from support.same_runs import assert_same, by_folder
from tl_runner.cli import report as report_cli
from tl_runner.jobs import resume

GRID = ("-m", *TINY, "method=source_only,adda", "data=fonts2digits,digits2fonts", "seed=0")
WHOLE = (
    "-m",
    *TINY,
    "method=source_only,adda,adda_paper",
    "data=fonts2digits,digits2fonts",
    "seed=0,1,2,3,4",
)


def table(folder: Path, capfd) -> list[list[str]]:
    """The raw numbers of tl-report, every digit of them."""
    with pytest.raises(SystemExit):
        report_cli.main([str(folder), "--format", "csv"])
    return list(csv.reader(io.StringIO(capfd.readouterr().out)))


def stamps(folder: Path) -> dict[Path, int]:
    return {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def _killed_and_resumed(tl_run, tmp_path, capfd, words, steps):
    untouched, broken = tmp_path / "untouched", tmp_path / "broken"
    ended = tl_run(*words, f"hydra.sweep.dir={untouched}", f"cache.dir={tmp_path / 'cache'}")
    assert ended.code == 0, ended.text
    killed("step", steps, broken, *words, f"cache.dir={tmp_path / 'cache 2'}")
    done = by_folder(broken)
    assert 0 < len(done) < len(by_folder(untouched))
    before = {name: stamps(folder) for name, folder in done.items()}
    listed = tl_run("dry_run=true", f"resume={broken}")
    assert f"{len(by_folder(untouched)) - len(done)} run" in listed.out
    ended = tl_run(f"resume={broken}")
    assert ended.code == 0, ended.text
    assert f"{len(done)} of {len(by_folder(untouched))} runs are done already" in ended.err
    assert {
        name: stamps(broken / name) for name in before
    } == before  # what was done was not done again
    assert by_folder(broken).keys() == by_folder(untouched).keys()
    for name, folder in by_folder(untouched).items():
        without_shares(folder)
        without_shares(broken / name)
        assert_same(folder, broken / name)
    assert table(untouched, capfd) == table(broken, capfd)


def without_shares(folder: Path) -> None:
    """Whether a phase came out of the cache is the one thing that may differ."""
    result = json.loads((folder / "result.json").read_text())
    for phase in result["phases"]:
        phase.pop("shared", None)
    (folder / "result.json").write_text(json.dumps(result))


def test_a_killed_sweep_is_finished_by_one_command(tl_run, tmp_path, capfd):
    words = ("-m", *TINY, "method=source_only,adda", "seed=0")
    _killed_and_resumed(tl_run, tmp_path, capfd, words, steps=4 * 2 + 3)


@pytest.mark.slow
def test_a_killed_sweep_of_thirty_runs(tl_run, tmp_path, capfd):
    _killed_and_resumed(tl_run, tmp_path, capfd, WHOLE, steps=137)


def test_a_failed_job_stops_no_other_and_is_named(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    ended = tl_run(
        "-m",
        *TINY,
        "method=source_only",
        "train.optimizer.lr=1e-3,1e30",
        "seed=0,1",
        f"hydra.sweep.dir={sweep}",
    )
    assert ended.code == 1
    assert [r["status"] for r in results(sweep)] == ["done", "done", "failed", "failed"]
    assert "DivergedError" in (sweep / "2-source_only-fonts2digits-s0" / "run.log").read_text()
    row = next(line for line in ended.out.splitlines() if "1e+30" in line)
    assert "(0)" in row
    assert "seed 1: failed: pretrain, epoch 1: the loss cross_entropy became" in ended.out
    assert str(sweep) in ended.out


def test_every_job_is_on_record_before_the_first_starts(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    killed("step", 1, sweep, *GRID)
    jobs = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert [job["folder"] for job in jobs][::3] == [
        "0-source_only-fonts2digits-s0",
        "3-adda-digits2fonts-s0",
    ]
    assert jobs[3]["choices"] == {
        "method": "adda",
        "data": "digits2fonts",
        "backbone": "lenet",
        "device": "cpu",
    }
    assert jobs[3]["seed"] == 0
    assert "method=adda" in jobs[3]["overrides"]
    ended = tl_run("dry_run=true", f"resume={sweep}")
    assert ended.code == 0
    assert "4 runs, all valid" in ended.out


def test_a_sweep_that_is_running_is_not_resumed(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    assert (
        tl_run("-m", *TINY, "method=source_only", "seed=0,1", f"hydra.sweep.dir={sweep}").code == 0
    )
    handle = os.open(sweep, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        ended = tl_run(f"resume={sweep}")
    finally:
        os.close(handle)
    assert ended.code == 2
    assert "another process" in ended.err


@pytest.mark.parametrize(
    "damage", ["", "{", '{"jobs": []}', '{"overrides": [3], "jobs": []}', "[]"]
)
def test_a_damaged_record_of_a_sweep(tl_run, tmp_path, damage):
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    (sweep / "sweep.json").write_text(damage)
    ended = tl_run(f"resume={sweep}")
    assert ended.code == 2
    assert "sweep.json is damaged" in ended.err


def test_one_job_of_a_sweep_is_resumed_alone(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    killed("step", 4 * 2 + 3, sweep, "-m", *TINY, "sweep=seeds", "method=source_only")
    ended = tl_run(f"resume={sweep / '1-source_only-fonts2digits-s1'}")
    assert ended.code == 0, ended.text
    assert len(results(sweep)) == 2


def test_presets_of_sweeps(tl_run):
    ended = tl_run("dry_run=true", "-m", "sweep=seeds", "method=source_only,adda")
    assert "10 runs" in ended.out
    ended = tl_run("dry_run=true", "-m", "sweep=seeds", "seed=7")  # the line wins over the preset
    assert "1 run," in ended.out
    ended = tl_run("dry_run=true", "sweep=seeds")
    assert ended.code == 2
    assert "Add -m" in ended.err


def test_a_command_that_a_scheduler_starts_anew_goes_on(tl_run, tmp_path, monkeypatch):
    monkeypatch.setenv("TL_RUN_ID", "night")
    words = (*TINY, "method=source_only")
    assert tl_run(*words).code == 0
    ended = tl_run(*words)
    assert ended.code == 0
    assert "going on in" in ended.err
    assert "done already" in ended.out
    assert tl_run(*words, "train.batch_size=16").code == 2  # another command is another run
    assert tl_run("-m", *words, "seed=0,1").code == 0
    ended = tl_run("-m", *words, "seed=0,1")
    assert ended.code == 0
    assert "2 of 2 runs are done already" in ended.err
    assert os.environ["TL_RUN_ID"] == "night"


def test_the_id_of_a_command(monkeypatch):
    words = ["tl-run", "seed=1"]
    assert resume.run_id(words, {"TL_RUN_ID": "mine", "SLURM_JOB_ID": "7"}) == ("mine", True)
    name, lasting = resume.run_id(words, {"SLURM_JOB_ID": "7"})
    assert lasting
    assert name.startswith("slurm-7-")
    assert resume.run_id(words, {"SLURM_JOB_ID": "7"})[0] == name
    assert resume.run_id(["tl-run", "seed=2"], {"SLURM_JOB_ID": "7"})[0] != name
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    assert resume.run_id(words, array)[0].startswith("slurm-7_3-")
    first, lasting = resume.run_id(words, {})
    assert not lasting
    assert resume.run_id(words, {})[0] != first


def test_a_run_that_another_process_is_at_is_left_alone(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    killed("step", 4 * 2 + 3, sweep, "-m", *TINY, "method=source_only", "seed=0,1")
    held = sweep / "1-source_only-fonts2digits-s1"
    before, handle = stamps(held), os.open(held, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        ended = tl_run(f"resume={sweep}")
        assert ended.code == 130
        assert "another process" in ended.err
        assert tl_run(f"resume={held}").code == 2
        assert stamps(held) == before
    finally:
        os.close(handle)
    assert tl_run(f"resume={sweep}").code == 0


def test_a_preset_that_has_changed_is_not_resumed(tl_run, tmp_path):
    own, sweep = tmp_path / "own" / "sweep", tmp_path / "sweep"
    own.mkdir(parents=True)
    text = (
        "# @package _global_\n# Mine.\nhydra: {sweeper: {params: {train.optimizer.lr: "
        "'1e-3,2e-3'}}}\n"
    )
    (own / "mine.yaml").write_text(text)
    words = ("--config-dir", str(own.parent), "-m", "sweep=mine", *TINY, "method=source_only")
    assert tl_run(*words, f"hydra.sweep.dir={sweep}").code == 0
    record = (sweep / "sweep.json").read_bytes()
    (own / "mine.yaml").write_text(text.replace("2e-3", "3e-3"))
    ended = tl_run(f"resume={sweep}")
    assert ended.code == 2
    assert "train.optimizer.lr=0.003" in ended.err
    assert (sweep / "sweep.json").read_bytes() == record
    own.parent.rename(tmp_path / "elsewhere")
    ended = tl_run(f"resume={sweep}")
    assert ended.code == 2
    assert "not there any more" in ended.err


def test_a_misspelt_key_in_a_preset_of_ones_own(tl_run, tmp_path):
    own = tmp_path / "own" / "sweep"
    own.mkdir(parents=True)
    (own / "typo.yaml").write_text("# @package _global_\n# Mine.\ntrain: {epoch: 1}\n")
    ended = tl_run("--config-dir", str(own.parent), "-m", "sweep=typo", "seed=0,1")
    assert ended.code == 2
    assert "train.epoch, set in sweep/typo.yaml: no such key" in ended.err


@pytest.mark.parametrize(
    "name",
    cases(["back\\slash", "a $b c", "quo'te", "x=1,y[2]", "../up/sweep"], ("x=1,y[2]",)),
)
def test_odd_folders(tl_run, tmp_path, monkeypatch, name):
    from tl_runner.jobs.launch import _quoted

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ("-m", *TINY, "method=source_only", "train.epochs=1", "seed=0,1")
    ended = tl_run(*words, f"hydra.sweep.dir={_quoted(name)}") if name.startswith("..") else None
    if ended is None:
        place = tmp_path / "here" / name
        place.mkdir()
        monkeypatch.chdir(place)
        ended = tl_run(*words, "hydra.sweep.dir=sweep")
        assert len(results(place)) == 2
    assert ended.code == 0, ended.text
    assert len(results(tmp_path)) == 2
    (sweep,) = {p.parent for p in tmp_path.rglob("sweep.json")}
    monkeypatch.chdir(tmp_path)
    assert tl_run(f"resume={sweep}").code == 0


def test_an_id_that_cannot_name_a_folder(tl_run, monkeypatch):
    monkeypatch.setenv("TL_RUN_ID", "../../esc")
    ended = tl_run("debug=smoke")
    assert ended.code == 2
    assert "names folders" in ended.err
