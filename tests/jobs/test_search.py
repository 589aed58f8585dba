"""sweep=tpe: a bad start is left behind, a trial that diverges stops nothing, and a search that was
cut off goes on."""

from __future__ import annotations

import pytest

from support.kills import killed
from support.runs import TINY, results

optuna = pytest.importorskip("optuna", reason="the extra tl-run[sweep] is not installed")

SEARCH = ("-m", "sweep=tpe", "sweep.random=2", *TINY, "method=source_only")
RATE = "method.pretrain.optimizer.lr"


def trials(sweep):
    """(value or None, learning rate) of each trial."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    study = optuna.load_study(
        study_name="tl-run",
        storage=JournalStorage(JournalFileBackend(str(sweep / "optuna.journal"))),
    )
    return [(t.value, t.params[RATE]) for t in study.trials]


def test_a_bad_start_is_left_behind(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    ended = tl_run(
        *SEARCH,
        "sweep.trials=4",
        "sweep.objective=source_val.accuracy",
        f"{RATE}=1e-7",
        f"hydra.sweep.dir={sweep}",
    )
    assert ended.code == 0, ended.text
    found = trials(sweep)
    assert len(found) == 4
    assert found[0][1] == 1e-7  # the config as it stands is the first trial
    assert all(1e-4 <= rate <= 1e-2 for _, rate in found[1:])
    assert max(found)[0] > found[0][0] + 0.2
    assert [r["metrics"]["source_val"]["accuracy"] for r in results(sweep)] == [
        value for value, _ in found
    ]
    assert f"the start's {found[0][0]:.4f}" in ended.err
    assert "oracle" not in ended.err


def test_the_mean_of_seeds_is_judged_and_a_diverging_trial_fails_alone(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    words = (
        "sweep.trials=3",
        "seed=0,1",
        f"{RATE}=choice(1e-3,1e30)",
        "sweep.objective=target_train.im",
    )
    ended = tl_run(*SEARCH, *words, f"hydra.sweep.dir={sweep}")
    assert ended.code == 1  # a run failed, as in any sweep
    found = trials(sweep)
    assert len(found) == 3
    assert {value is None for value, rate in found if rate == 1e30} == {True}
    done = results(sweep)
    assert len(done) == 6
    assert {r["status"] for r in done} == {"done", "failed"}
    means = {value for value, _ in found if value is not None}
    assert means == {sum(r["metrics"]["target_train"]["im"] for r in done[:2]) / 2}


def test_cut_off_and_resumed_it_asks_the_same(tl_run, tmp_path):
    whole, broken = tmp_path / "a" / "sweep", tmp_path / "b" / "sweep"
    words = (*SEARCH, "sweep.trials=2")
    assert tl_run(*words, f"hydra.sweep.dir={whole}").code == 0
    broken.parent.mkdir()
    killed("step", 8 + 5, broken, *words)
    assert len(results(broken)) == 1
    ended = tl_run(f"resume={broken}")
    assert ended.code == 0, ended.text
    assert trials(broken) == trials(whole)
    assert tl_run(f"resume={broken}").code == 0  # nothing is left to do
    assert len(results(broken)) == 2


def test_a_search_that_looks_at_target_labels_says_so(tl_run):
    ended = tl_run(*SEARCH, "sweep.trials=1", "sweep.objective=target_test.accuracy")
    assert ended.code == 0
    assert "oracle: chosen by target labels" in ended.err


TASKS = (
    "data.tasks.val=4",
    "data.tasks.test=4",
    "method.meta.epochs=1",
    "method.meta.steps_per_epoch=1",
    "method.meta.batch_size=4",
)


@pytest.mark.parametrize(
    ("data", "judge", "direction"),
    [("glyphs", "meta_val.accuracy", "MAXIMIZE"), ("sinusoid", "meta_val.mse", "MINIMIZE")],
)
def test_a_search_over_few_shot_tasks_goes_by_those_of_validation(
    tl_run, tmp_path, data, judge, direction
):
    import optuna

    few = (
        ("data.images=4", "data.classes.test=300", "backbone.filters=4") if data == "glyphs" else ()
    )
    words = (
        "method=maml",
        f"data={data}",
        *few,
        *TASKS,
        "method.task_batching=loop",
        "device=cpu",
        "figures=false",
    )
    ended = tl_run(
        "-m", "sweep=tpe", "sweep.trials=2", *words, f"hydra.sweep.dir={tmp_path / 'sweep'}"
    )
    assert ended.code == 0, ended.text
    assert f"judged by {judge}" in ended.err
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "sweep" / "optuna.journal"))
    )
    study = optuna.load_study(study_name="tl-run", storage=storage)
    assert study.direction.name == direction
    assert study.best_value == (min if direction == "MINIMIZE" else max)(
        t.value for t in study.trials
    )


def test_a_search_for_the_worst_is_refused(tl_run):
    ended = tl_run("-m", "sweep=tpe", "method=maml", "data=sinusoid", "sweep.direction=maximize")
    assert ended.code == 2
    assert "sweep.direction=maximize: of meta_val.mse less is better" in ended.err


def test_what_is_wrong_with_a_search(tl_run, monkeypatch, tmp_path):
    ended = tl_run(
        *SEARCH,
        "sweep.trials=1",
        "sweep.objective=source_val.acuracy",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert ended.code == 2
    assert "Did you mean 'source_val.accuracy'" in ended.err
    ended = tl_run("-m", "method=source_only,adda", "sweep=tpe")
    assert ended.code == 2
    assert "one choice of every group" in ended.err
    ended = tl_run("-m", f"{RATE}=interval(1e-4,1e-2)", "method=source_only")
    assert ended.code == 2
    assert "Add sweep=tpe" in ended.err
    ended = tl_run("-m", "sweep=tpe", "method=source_only", "method.search=[]")
    assert ended.code == 2
    assert "declares no search" in ended.err
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    ended = tl_run(*SEARCH, "sweep.trials=1")
    assert ended.code == 2
    assert "tl-run[sweep]" in ended.err


SPACES = {
    "no key": ("method.nosuch=interval(0,1)", "no such key"),
    "a section": ("method.pretrain=choice(1,2)", "a group of them"),
    "the wrong way round": (f"{RATE}=interval(9,3)", "lower end comes first"),
    "a logarithm of 0": (f"{RATE}=tag(log,interval(0,3))", "above 0"),
}


@pytest.mark.parametrize("case", SPACES)
def test_a_space_that_cannot_be_explored(tl_run, case):
    words, said = SPACES[case]
    ended = tl_run("dry_run=true", "-m", "sweep=tpe", "method=source_only", words)
    assert ended.code == 2
    assert said in ended.err


def test_a_list_that_is_none(tl_run):
    ended = tl_run(
        "dry_run=true", "-m", "sweep=tpe", "method=source_only", "method.search=[hidden=5]"
    )
    assert ended.code == 2
    assert tl_run("-m", "sweep=seeds,tpe").code == 2


def test_whole_numbers_stay_whole_and_the_best_trial_can_be_run_again(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    words = (
        "method.pretrain.batch_size=interval(8,16)",
        f"{RATE}=choice(1e-3,2e-3)",
        "seed=0,1",
        "sweep.trials=3",
    )
    ended = tl_run(*SEARCH, *words, f"hydra.sweep.dir={sweep}")
    assert ended.code == 0, ended.text
    import shlex

    again = next(
        line.strip()
        for line in ended.err.splitlines()
        if line.startswith("  tl-run -m sweep=seeds")
    )
    ended = tl_run("dry_run=true", *shlex.split(again)[1:])
    assert ended.code == 0, ended.text
    assert "5 runs, all valid" in ended.out


def test_a_damaged_journal(tl_run, tmp_path):
    sweep = tmp_path / "sweep"
    assert tl_run(*SEARCH, "sweep.trials=2", f"hydra.sweep.dir={sweep}").code == 0
    journal = sweep / "optuna.journal"
    journal.write_bytes(journal.read_bytes()[:-40])
    ended = tl_run(f"resume={sweep}")
    assert ended.code == 2
    assert "Delete it and resume" in ended.err
    journal.unlink()
    assert tl_run(f"resume={sweep}").code == 0
    assert len(results(sweep)) == 2


def test_a_dry_run_says_what_would_be_explored(tl_run):
    ended = tl_run("dry_run=true", "-m", "sweep=tpe", "method=adda")
    assert ended.code == 0
    assert (
        "method.adapt.optimizer.lr: tag(log, interval(1e-5, 1e-2)), starting from 0.0002"
        in ended.out
    )
    assert "20 trials, target_train.im, over" in ended.out


def test_null_is_a_choice_and_a_start_of_null_is_none(tl_run, tmp_path):
    """A choice of null is typed as null, and a key whose default is null is no start."""
    sweep = tmp_path / "sweep"
    few = ("debug=smoke", "device=cpu", "figures=false", "train.limit.samples=64")
    words = (*few, "method=no_transfer", "backbone=raw", "method.scale=null,unit")
    clip = "method.strength=tag(log,interval(0.001,10))"
    options = ("sweep.trials=3", "sweep.random=3", f"hydra.sweep.dir={sweep}")
    ended = tl_run("-m", "sweep=tpe", *words, clip, *options)
    assert ended.code == 0, ended.text
    assert len(results(sweep)) == 3
    assert {(f.parent / "config.yaml").read_text().count("scale: null") for f in _runs(sweep)} == {
        0,
        1,
    }
    other = (*few, "method=source_only", "train.optimizer.clip_norm=interval(0.1,10)")
    ended = tl_run("-m", "sweep=tpe", *other, "sweep.trials=2", f"hydra.sweep.dir={tmp_path / 'b'}")
    assert ended.code == 0, ended.text
    assert "so the first trial is drawn" in ended.err


def _runs(sweep):
    return sorted(sweep.rglob("result.json"))
