"""Everything shipped under conf/ composes, validates, explains itself and runs."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from support.arrays import numbers, vectors
from support.covers import cases
from support.encoders import make_encoder, reviews, sentences, write_table
from support.pictures import made_up
from support.runs import results
from support.shipped import module_of
from tl_runner import plugins
from tl_runner.backbones import Backbone
from tl_runner.cli import help
from tl_runner.config import compose as plan
from tl_runner.config.paths import CONF_DIR
from tl_runner.methods.base import Method

GROUPS = {group: [name for name, _ in help.choices(group, CONF_DIR)] for group in help.GROUPS}
FILES = sorted(p for p in CONF_DIR.rglob("*.yaml") if p.parent.name != "local")
EXTRA = {
    "processes": "joblib",
    "slurm": "submitit",
    "slurm_local": "submitit",
    "ray_cluster": "ray",
}


TEXTS = {"data.source_file": "books.csv", "data.target_file": "films.csv"}
NAMED = {  # what a user has to name, by choice
    **{f"data={name}": {"method": "maml"} for name in ("glyphs", "omniglot", "sinusoid")},
    "data=folder_episodes": {
        "method": "protonet",
        "data.target_dir": "things",
        "data.training.ways": "null",
    },
    "data=texts_episodes": {"method": "fomaml", "data.target_file": "intents.csv"},
    "data=arrays": {"data.target_file": "films.npz", "data.source_file": "books.npz"},
    "method=tradaboost_r2": {
        "data": "arrays",
        "data.source_file": "old_numbers.npz",
        "data.target_file": "new_numbers.npz",
        "backbone": "raw",
    },
    "data=texts": TEXTS,
    "backbone=tfidf": {"data": "texts", **TEXTS},
    "backbone=text": {"data": "texts", **TEXTS, "backbone.name": "encoder_dir"},
    **{  # of transformers alone
        f"method={name}": {
            "data": "texts",
            **TEXTS,
            "backbone": "text",
            "backbone.name": "encoder_dir",
        }
        for name in ("ia3", "prompt")
    },
    "data=multitask_digits": {"method": "multitask"},  # no source, as the default method needs
    "data=mnist": {"method": "target_only"},
    "data=folder": {"data.target_dir": "photos", "data.source_dir": "drawings"},
    "experiment=distil_photos": {"data.target_dir": "photographs"},
    "experiment=photos": {"data.target_dir": "photographs"},
    "experiment=resnet18_new_head": {
        "data.target_dir": "photos",
        "backbone.weights": "null",
        "data.size": "32",
    },
}
FEW = ("train.limit.samples=64",)
# inner loops of many steps, on many tasks
TASKS = ("method.meta.batch_size=2", "method.inner.steps=2", "method.inner.test_steps=2")
SHORTER = {
    **{f"experiment=omniglot_{task}": TASKS for task in ("5w1s", "5w5s", "20w1s", "20w5s")},
    **{f"method={name}": TASKS for name in ("maml", "fomaml", "anil", "reptile")},
    "method=meta_sgd": TASKS[:2],
    **{
        f"{group}={name}": FEW
        for group, names in GROUPS.items()
        for name in names
        if group == "experiment" and name.startswith(("omniglot_pr", "sinus", "hinton"))
    },
    **{f"method={name}": FEW for name in ("protonet", "pretrain_all")},
    # of 224 otherwise
    **{
        f"backbone={name}": (*FEW, "train.batch_size=16", "backbone.size=32")
        for name in ("timm", "efficientnet_lite0")
    },
}
CLASSES = {
    "things": [f"thing{i:02}" for i in range(24)],
    "photographs": [
        "airplane",
        "bird",
        "deer",
        "frog",
        "ship",
        "automobile",
        "cat",
        "dog",
        "horse",
        "truck",
    ],
}


def test_every_file_is_counted():
    """A new group or choice turns up in the loops below by itself; this one knows how many there
    were."""
    listed = {f"{group}/{name}" for group, names in GROUPS.items() for name in names}
    on_disk = {
        f"{p.parent.relative_to(CONF_DIR)}/{p.stem}"
        for p in FILES
        if p.parent != CONF_DIR and not p.name.startswith("_")
    }
    assert listed == on_disk
    assert len(listed) >= 24


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(CONF_DIR)))
def test_every_file_opens_with_what_it_is_and_how_to_run_it(file):
    text = file.read_text()
    assert "_target_" not in text
    if not file.name.startswith("_"):
        assert len(help.first_line(file)) > 15
        assert "tl-run" in "".join(line for line in text.splitlines() if line.startswith("#"))


RUN = ("method", "data", "backbone")  # groups whose choices the smoke runs compose


@pytest.mark.parametrize(
    "choice", [f"{g}={n}" for g, names in GROUPS.items() for n in names if g not in RUN]
)
def test_every_choice_composes_and_validates(choice):
    launcher, sweep = (
        choice.startswith("hydra/launcher="),
        choice.startswith(("hydra/launcher=", "sweep=")),
    )
    if launcher and not find_spec(f"hydra_plugins.hydra_{EXTRA[choice.split('=')[1]]}_launcher"):
        pytest.skip("the launcher's extra is not installed")
    made = plan.make(
        [choice, *(f"{key}={value}" for key, value in NAMED.get(choice, {}).items())], sweep=sweep
    )
    group = {choice.split("=")[0]} & {"sweep", "track"}
    for job in made.jobs:
        teacher = {"teacher"} if "teacher" in job.config["method"] else set()
        assert set(job.config) - group - teacher == {
            "seed",
            "selection",
            "data",
            "backbone",
            "device",
            "train",
            "method",
            "cache",
            "figures",
        }
    assert len(made.jobs) == {"sweep=seeds": 5, "sweep=lr_grid": 12}.get(choice, 1)
    assert bool(made.space) is (choice == "sweep=tpe")


@pytest.mark.parametrize(("folder", "base"), [("methods/*", Method), ("backbones", Backbone)])
def test_every_module_has_a_config_and_every_config_a_module(folder, base):
    group = folder.removesuffix("/*").removesuffix("s")
    names = {module_of(group, name) for name in GROUPS[group]}
    for name in names:
        assert issubclass(plugins.class_in(folder, name, base), base)
    assert plugins.choices(folder).keys() == names


@pytest.fixture
def smoke(tl_run, tmp_path, made_up_root, monkeypatch):
    """``smoke(*words)``: the result of a run of a few steps; data that reads files finds made-up
    ones."""

    monkeypatch.setenv("TL_DATA_ROOT", str(made_up_root))

    def command(*words):
        shorter = [more for word in words for more in SHORTER.get(word, ())]
        shorter = shorter or [*FEW, "train.batch_size=16"]
        named = {key: value for word in words for key, value in NAMED.get(word, {}).items()}
        root = [
            f"{key}={made_for(tmp_path / value) if MADE.search(f'{key}={value}') else value}"
            for key, value in named.items()
        ]
        ended = tl_run(
            "debug=smoke",
            "device=cpu",
            *(w for w in shorter if not {w.split("=")[0]} & {v.split("=")[0] for v in words}),
            *words,
            *root,
            f"hydra.run.dir={tmp_path / 'run'}",
        )
        assert ended.code == 0, ended.text
        (result,) = results(tmp_path)
        assert result["status"] == "done"
        assert 0 <= result["score"] <= (1 if result["metric"] == "accuracy" else 1e6)
        return result

    return command


# a method for each data set, so that each of both runs once; other methods run on
# what they default to
METHOD_OF = {
    "fonts2digits": "shot",
    "digits2fonts": "dan",
    "mnist2usps": "adda",
    "usps2mnist": "mcd",
    "mnist2mnistm": "deepcoral",
    "svhn2mnist": "jan",
    "digits_multi": "source_only",
    "folder": "dann",
    "arrays": "cdan",
    "texts": "coral",
    "cifar10": "finetune",
    "split_digits": "lwf",
    "mnist": "kd",
    "multitask_digits": "multitask",
    "glyphs": "maml",
    "omniglot": "anil",
    "sinusoid": "pretrain_all",
    "folder_episodes": "protonet",
    "texts_episodes": "fomaml",
}


def test_every_data_set_has_its_method():
    assert METHOD_OF.keys() == {*GROUPS["data"]}
    assert {*METHOD_OF.values()} <= {*GROUPS["method"]}


# those whose YAML is another's with other values: that one runs, and of these the plan is made
VARIANTS = [name for name in GROUPS["method"] if module_of("method", name) != name]


@pytest.mark.parametrize("method", VARIANTS)
def test_every_variant_of_a_method_has_a_plan(method):
    module = module_of("method", method)
    first, second = (
        plan.check([f"method={name}", "data.target_labels=5"], sweep=False)[0].config["method"]
        for name in (module, method)
    )
    assert first["name"] == module
    assert second.get("module", second["name"]) == module
    assert first != second


@pytest.mark.parametrize(
    "method", cases(GROUPS["method"], [m for m in GROUPS["method"] if m not in VARIANTS])
)
def test_every_method_runs_under_smoke(smoke, method):
    data = [f"data={name}" for name, its in METHOD_OF.items() if its == method]
    smoke(f"method={method}", *data, "figures=false")


def test_a_smoke_run_draws_its_figures(smoke, tmp_path):
    smoke("method=dann", "figures=all")
    assert {file.stem for file in (tmp_path / "run" / "figures").glob("*.png")} == {
        "curves",
        "confusion_target_test",
        "roc_target_test",
        "reliability_target_test",
        "embedding",
    }


def made_for(path):
    """Pictures or vectors made up here, for a name of ``NAMED``."""
    if path.stem.endswith("numbers"):
        return numbers(path)
    if path.stem == "intents":
        texts = enumerate(text for text, _ in sentences(24 * 12, 1))
        return write_table(path, [{"text": t, "label": f"intent{i % 24}"} for i, t in texts])
    if path.suffix == ".csv":
        return reviews(path, 60, seed=len(path.stem))
    if path.stem == "encoder_dir":
        return make_encoder(path)
    return (
        vectors(path)
        if path.suffix == ".npz"
        else made_up(path, CLASSES.get(path.name, ("cat", "dog")))
    )


MADE = re.compile("_(dir|file)=|=.*_dir$")  # files and folders that are made up
NO_SOURCE = ("mnist",)
# data whose source and target have other classes, so adaptation is not for them
OTHER_CLASSES = ("cifar10", "split_digits")


@pytest.mark.slow
@pytest.mark.parametrize("data", GROUPS["data"])
@pytest.mark.parametrize("method", ["source_only", "adda"])
def test_every_data_runs_under_smoke(smoke, method, data):
    if data in OTHER_CLASSES or data in NO_SOURCE:
        method = {"source_only": "target_only", "adda": "kd" if data in NO_SOURCE else "finetune"}[
            method
        ]
    words = [] if "method" in NAMED.get(f"data={data}", {}) else [f"method={method}"]
    smoke(*words, f"data={data}", "figures=false")


@pytest.mark.parametrize("backbone", GROUPS["backbone"])
def test_every_backbone_runs_under_smoke(smoke, backbone):
    smoke("method=source_only", f"backbone={backbone}", "figures=false")


def test_each_of_several_targets_is_scored_by_itself(smoke):
    result = smoke(
        "method=source_only",
        "data=digits_multi",
        "data.source=mnist",
        "data.target=[usps,digits]",
        "train.limit.samples=null",
    )
    both, usps, digits = (
        result["metrics"][f"target_test{name}"]["accuracy"] for name in ("", "_usps", "_digits")
    )
    assert both == pytest.approx((15 * usps + 597 * digits) / 612)


# one of each kind of data and of phases; the others compose above
EXPERIMENTS = (
    "uda_digits",
    "classical_digits",
    "photos",
    "distil_photos",
    "hinton_mnist",
    "sinusoid",
    "omniglot_5w1s",
    "omniglot_protonet",
    "resnet18_new_head",
)


@pytest.mark.parametrize("experiment", cases(GROUPS["experiment"], EXPERIMENTS))
def test_every_experiment_runs_under_smoke(smoke, experiment):
    smoke(f"experiment={experiment}", "figures=false")
