"""A command is composed once, and what was checked is what runs."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.types import RunMode
from omegaconf import OmegaConf

from support import compositions
from support.runs import TINY
from tl_runner.cli.command import parse as taken_apart
from tl_runner.config.bases import Bases, with_keys
from tl_runner.config.compose import check, make
from tl_runner.config.loader import composer
from tl_runner.config.overrides import parse
from tl_runner.errors import ConfigError
from tl_runner.jobs.launch import by_name


@pytest.fixture
def composed(monkeypatch):
    """The overrides of every composition."""
    calls, load = [], ConfigLoaderImpl.load_configuration

    def counted(self, config_name, overrides, *args, **more):
        calls.append(list(overrides))
        return load(self, config_name, overrides, *args, **more)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    monkeypatch.setattr(Bases, "of", compositions.compose)  # not from an earlier test
    return calls


def test_a_single_run_is_composed_once(composed, tl_run, tmp_path):
    ended = tl_run(*TINY, "debug=smoke", "method=source_only", "seed=3")
    assert ended.code == 0, ended.text
    assert composed == [["device=cpu", "debug=smoke", "method=source_only"]]
    (file,) = tmp_path.rglob(".hydra/config.yaml")
    hydra = yaml.safe_load(file.read_text())
    ours = yaml.safe_load((file.parent.parent / "config.yaml").read_text())
    assert (hydra["seed"], ours["seed"]) == (3, 3)
    assert "allowed" not in hydra["method"]
    assert "allowed" not in hydra["data"]
    overrides = yaml.safe_load((file.parent / "overrides.yaml").read_text())
    assert overrides == [*TINY, "debug=smoke", "method=source_only", "seed=3"]


def test_a_sweep_composes_each_combination_of_choices_once(composed):
    made = make(["method=dann,adda", "seed=0,1,2", "train.epochs=1,2"], sweep=True)
    assert len(made.jobs) == 12
    assert len(composed) == 3  # the sweep as a whole, and two methods


@pytest.mark.parametrize(
    "words",
    [
        ["method=adda", "seed=3", "method.adapt.gate=0.5", "hydra.run.dir=x"],
        ["experiment=adda_digits", "debug=smoke", "train.epochs=7"],
        ["method=kd", "backbone@teacher=mlp", "teacher.hidden=[3,4]", "hydra.job.name=y"],
        ["method.adapt.optimizer={lr: 0.1, name: sgd}", "hydra.verbose=true", "device=cpu"],
    ],
)
def test_the_config_of_a_job_is_hydras_own(words):
    with composer(None) as hydra:
        bases = Bases(hydra)
        parsed = parse(words)
        mine = with_keys(bases.of(bases.choices_of(parsed)), parsed)
        theirs = hydra.config_loader.load_configuration("config", words, RunMode.RUN)
    for config in (mine, theirs):  # printed with references, not values
        OmegaConf.set_readonly(config, False)
    assert OmegaConf.to_yaml(mine) == OmegaConf.to_yaml(theirs)


def test_what_was_checked_is_what_runs(tl_run, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tl_runner.jobs.endings.run", lambda job: seen.append(job) or {"score": None}
    )
    words = [*TINY, "method=source_only", "seed=5"]
    assert tl_run(*words, "hydra.run.dir=there").code == 0
    (job,) = seen
    assert job.config == check(words, sweep=False)[0].config
    assert job.command == ["tl-run", *words, "hydra.run.dir=there"]
    assert (job.folder, job.resume, job.sweep, job.quiet) == (
        tmp_path / "there",
        False,
        False,
        False,
    )


def test_jobs_for_workers_share_what_they_have_in_common():
    jobs = make(["seed=range(0,12)"], sweep=True).jobs
    sent = by_name(jobs)
    assert [sent[job.name].config for job in jobs] == [job.config for job in jobs]
    assert len(pickle.dumps(sent)) < 3 * len(json.dumps(jobs[0].config)) + 12 * 700


@pytest.mark.parametrize(
    ("words", "flags", "overrides"),
    [
        (["--cfg", "method=dann"], {"--cfg": "job"}, ["method=dann"]),
        (["--cfg", "job", "method=dann"], {"--cfg": "job"}, ["method=dann"]),
        (["--cfg=hydra", "method=dann"], {"--cfg": "hydra"}, ["method=dann"]),
        (["-c", "all"], {"--cfg": "all"}, []),
        (["--info", "method=dann"], {"--info": "all"}, ["method=dann"]),
        (["-i", "defaults", "seed=1"], {"--info": "defaults"}, ["seed=1"]),
        (["-c", "-p", "method", "seed=1"], {"--cfg": "job", "--package": "method"}, ["seed=1"]),
        (["-sc", "install=bash"], {"--shell-completion": None}, ["install=bash"]),
    ],
)
def test_a_flag_of_hydras_takes_no_override(words, flags, overrides):
    command = taken_apart(words)
    assert (command.flags, command.overrides) == (flags, overrides)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cfg", "jbo"], "Did you mean 'job'"),
        (["--resolve"], "Add --cfg"),
        (["--cfg", "-m"], "leave -m out"),
        (["--cfg", "--info"], "one at a time"),
        (["--package", "seed=1", "--cfg"], "needs a section"),
    ],
)
def test_flags_that_do_not_go_together(words, said):
    with pytest.raises(ConfigError, match=said):
        taken_apart(words)


def test_cfg_prints_the_method_that_was_asked_for(tl_run):
    for words in (["--cfg", "method=dann"], ["--cfg", "job", "method=dann"]):
        ended = tl_run(*words)
        assert ended.code == 0
        config = yaml.safe_load(ended.out)
        assert config["method"]["name"] == "dann"
        assert "allowed" not in config["method"]


def test_no_function_of_jobs_takes_seven_arguments():
    import inspect

    from tl_runner.jobs import endings, hydra_job, launch, search, sweep, sweep_file

    for module in (endings, hydra_job, launch, search, sweep, sweep_file):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__:
                assert len(inspect.signature(function).parameters) <= 5, name
    assert Path(search.__file__).read_text().count("import sweep\n") == 0
