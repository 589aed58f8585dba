"""No key changes nothing: sections hold what is read, and an idle key of a command is refused."""

from __future__ import annotations

import copy
import re

import pytest

from support.runs import TINY
from tl_runner.config.compose import check
from tl_runner.config.idle_keys import REFERRED, effective, idle_sections, unread
from tl_runner.config.overrides import at, walk
from tl_runner.config.paths import CONF_DIR
from tl_runner.errors import ConfigError

FROZEN = ("data=mnist2usps", "backbone=torchvision", "backbone.frozen=true")
STILL = [f"data.augment.{k}=0" for k in ("rotate", "translate", "scale", "stretch", "shear")]


def problems(*words, sweep=False):
    try:
        check(words, sweep=sweep)
    except ConfigError as error:
        return "\n".join(error.problems)
    return ""


def resolved(config, root=None):
    """References to other keys followed, without OmegaConf, which takes its time."""
    root = config if root is None else root
    if isinstance(config, dict):
        return {key: resolved(value, root) for key, value in config.items()}
    if isinstance(config, str) and re.fullmatch(r"\$\{[\w.]+\}", config):
        return resolved(at(root, config[2:-1]), root)
    return config


def other(value):
    """Another value than this one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return [*value, 1] if isinstance(value, list) else f"{value}x"


def silent(base, groups):
    """The keys that change neither the effective plan nor get a message."""
    own = {key: value for key, value in base.own.items() if key in (*groups, "method", "data")}
    own |= {key: base.own[key] for key in ("train", "backbone", "seed", "cache")}
    own |= {"teacher": base.own["teacher"]} if "teacher" in base.own["method"] else {}
    config = resolved(own)
    before, found = effective(config, base.conditions), []
    leaves = [p for g in groups if g in own for p, v in walk(own[g], f"{g}.") if v != {}]
    for path in leaves:
        section, _, leaf = path.rpartition(".")
        if isinstance(at(own, path), dict):
            continue
        changed = copy.deepcopy(own) if path.startswith(REFERRED) else copy.deepcopy(config)
        at(changed, section)[leaf] = other(at(config, path))
        after = resolved(changed)
        if effective(after, base.conditions) == before and not unread(
            path, own, after, base.conditions
        ):
            found.append(path)
    return found


def test_every_key_of_every_method_changes_the_plan_or_is_refused(methods):
    for name, base in methods.items():
        assert silent(base, ["method"]) == [], name


def test_every_key_of_data_and_backbones_changes_the_plan_or_is_refused(data_sets, backbones):
    for base in data_sets.values():
        assert silent(base, ["data", "backbone"]) == [], base.choices
    for base in backbones.values():
        assert silent(base, ["backbone"]) == [], base.choices


@pytest.mark.parametrize("method", ["adda", "kd", "maml", "self_distill", "no_transfer"])
def test_every_key_of_train_changes_the_plan_or_is_refused(methods, method):
    assert silent(methods[method], ["train", "teacher"]) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["method=tca", "method.gamma=2"],
            "method.gamma=2: only with method.kernel=rbf. Set that, or leave it out.",
        ),
        (["method=jda", "method.landmarks=9"], "only with method.kernel=rbf"),
        (
            ["method=no_transfer", "method.learner=1nn", "method.strength=3"],
            "method.strength=3: only with method.learner=logistic or svm or ridge or mlp.",
        ),
        (["method=multitask", "method.asymmetry=2"], "only with method.weighting=gradnorm"),
        (["method=adda_paper", "method.adapt.gate_window=3"], "method.adapt.gate other than 0"),
        (
            ["method=adabn", "method.adapt.optimizer.lr=1"],
            "method.adapt.optimizer.lr: no such key",
        ),
        (
            ["method=adda", "method.adapt.label_smoothing=0.2"],
            "only with data.target_labels other than 0",
        ),
        (["train.optimizer.momentum=0.5"], "only with method.pretrain.optimizer.name=sgd"),
        (["train.optimizer.milestones=[0.1]"], "schedule=step"),
        (
            ["train.optimizer.name=sgd", "method.pretrain.optimizer.betas=[0.5,0.9]"],
            "only with method.pretrain.optimizer.name=adam or adamw",
        ),
        (
            ["method=protonet", "train.batch_size=64"],
            "train.batch_size=64: nothing in this run reads it: few-shot tasks make no use of it. "
            "method.meta.batch_size counts tasks.",
        ),
        (["method=self_distill", "train.label_smoothing=0.3"], "Set method.distil.label_smoothing"),
        (
            ["method=dann", "method.pretrain.epochs=0", "method.pretrain.batch_size=3"],
            "only with method.pretrain.epochs above 0",
        ),
        (["method=linear_probe", "method.keep=0.3"], "only with method.select other than null"),
        (["method=finetune", "method.alpha=0.3"], "only with method.regulariser other than null"),
        (["data=split_digits", "method=lwf", "data.usps_split=random"], "only with data.of=usps"),
        (
            [*FROZEN, "method=dann", "data.augment.rotate=9"],
            "only with a network that is trained, or with backbone.views above 0",
        ),
        (
            ["data=mnist2usps", "backbone=torchvision", "backbone.views=2"],
            "backbone.views=2: only with backbone.frozen=true",
        ),
        (
            [*FROZEN, "method=dann", "backbone.views=2", *STILL],
            "all views of this data are the picture itself",
        ),
    ],
)
def test_an_idle_key_is_refused_with_what_would_make_it_count(words, said):
    assert said in problems(*words)


@pytest.mark.parametrize(
    "words",
    [
        [*FROZEN, "method=dann", "backbone.views=2", "data.augment.rotate=9"],
        ["method=tca", "method.gamma=2", "method.kernel=rbf"],
        ["method=tca", "method.gamma=null"],  # as it is anyway
        ["method=delta", "method.alpha=0.3"],  # which takes back what it inherits
        ["method=l2_sp", "method.beta=0.3"],
        [*TINY, "method=no_transfer", "method.features.epochs=0"],
        ["train.batch_size=64", "method.pretrain.batch_size=64", "method.adapt.batch_size=64"],
        ["experiment=adda_digits", "method=adabn"],  # what a preset sets is nobody's mistake
        ["train.optimizer.name=sgd", "train.optimizer.momentum=0.5"],
        ["method.pretrain.optimizer.name=sgd", "train.optimizer.momentum=0.5"],
    ],
)
def test_what_may_count_is_not_refused(words):
    assert problems(*words) == ""


def test_a_sweep_is_judged_over_all_its_jobs():
    assert problems("method=tca", "method.kernel=linear,rbf", "method.gamma=2", sweep=True) == ""
    assert problems("method=protonet,dann", "train.mixup=0.2", sweep=True) == ""
    said = problems("method=tca,jda", "method.gamma=1,2", sweep=True)
    assert said == "method.gamma=1,2: only with method.kernel=rbf. Set that, or leave it out."


def test_a_search_is_not_judged_by_its_first_trial():
    words = ("sweep=tpe", "method=tca", "method.kernel=choice(linear,rbf)")
    assert problems(*words, "method.gamma=interval(0.1,1)", sweep=True) == ""


@pytest.mark.parametrize("method", ["adda", "shot", "adabn"])
def test_target_labels_bring_the_keys_that_they_need(tl_run, method):
    """Labelled target images have a loss of their own, which reads what else is idle."""
    own = [] if method == "adabn" else ["method.adapt.label_smoothing=0.2"]
    ended = tl_run(*TINY, "debug=smoke", f"method={method}", "data.target_labels=3", *own)
    assert ended.code == 0, ended.text


class Recorder(dict):
    """A section that notes which of its keys are read."""

    def __init__(self, section, path, seen):
        super().__init__(
            (k, Recorder(v, f"{path}{k}.", seen) if isinstance(v, dict) else v)
            for k, v in section.items()
        )
        self.path, self.seen = path, seen

    def __iter__(self):  # so that a copy, {**section}, asks for every key, and has read it
        return super().__iter__()

    def __getitem__(self, key):
        self.seen.add(f"{self.path}{key}")
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.seen |= {f"{self.path}{key}"} & {f"{self.path}{one}" for one in self}
        return super().get(key, default)

    def items(self):
        self.seen |= {f"{self.path}{key}" for key in self}
        return super().items()


FAST = ("adabn", "adda", "multitask")
METHODS = sorted(file.stem for file in (CONF_DIR / "method").glob("[!_]*.yaml"))
RECORDED = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in METHODS
    # the first needs files of numbers, and has tradaboost's sections; the others a transformer
    if name not in ("tradaboost_r2", "ia3", "prompt")
]


@pytest.mark.parametrize("method", RECORDED)
def test_every_nested_key_of_a_method_is_read(tl_run, monkeypatch, methods, method):
    """A smoke run reads every key of its method's sections but the idle ones."""
    from tl_runner.jobs import run as page

    seen, runs, make = set(), [], page.method_of

    def recorded(config, *args, **more):
        runs.append(config)
        section = Recorder(config["method"], "method.", seen)
        return make({**config, "method": section}, *args, **more)

    monkeypatch.setattr(page, "method_of", recorded)
    ended = tl_run("debug=smoke", "device=cpu", "figures=false", f"method={method}")
    assert ended.code == 0, ended.text
    (config,) = runs
    idle = idle_sections(config, methods[method].conditions)
    silent_keys = {
        path
        for path, value in walk(config["method"], "method.")
        if path.count(".") > 1
        and not isinstance(value, dict)
        and path not in seen
        and not any(path == one or path.startswith(f"{one}.") for one in idle)
    }
    assert silent_keys == set()
