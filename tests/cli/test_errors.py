"""Wrong commands and broken inputs: the exit code of the design, one message that names the cure,
nothing half-written.

The data files here are made up, in the real formats.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from support.made_digits import make_root, shrink, write_idx
from support.runs import TINY, results
from tl_runner.data.domains.mnist import MNIST
from tl_runner.errors import DataError

# words -> what the message must hold
COMMANDS = {
    "misspelt group": (["methd=adda"], ["methd", "Did you mean 'method'"]),
    "misspelt choice": (["method=addda"], ["no such method", "Did you mean 'adda'"]),
    "misspelt data": (["data=mnist2usp"], ["no such data", "Did you mean 'mnist2usps'"]),
    "misspelt experiment": (["experiment=adda_digit"], ["Did you mean 'adda_digits'"]),
    "misspelt key": (["train.epoch=3"], ["Did you mean 'train.epochs'"]),
    "misspelt key of the method": (
        ["method=adda", "method.adapt.gate_windw=3"],
        ["Did you mean 'method.adapt.gate_window'"],
    ),
    "key of another data set": (["data.protocol=full"], ["data.protocol", "no such key"]),
    "key of another method": (
        ["method=source_only", "method.adapt.epochs=2"],
        ["method.adapt.epochs", "no such key"],
    ),
    "text for a number": (
        ["train.optimizer.lr=fast"],
        ["train.optimizer.lr='fast'", "a number above 0"],
    ),
    "fraction for a count": (["train.batch_size=1.5"], ["train.batch_size=1.5", "whole number"]),
    "text for a boolean": (["device.compile=maybe"], ["device.compile='maybe'", "true or false"]),
    "negative epochs": (["train.epochs=-3"], ["train.epochs=-3", "at least 1"]),
    "zero batch": (["train.batch_size=0"], ["train.batch_size=0"]),
    "zero rate": (["method.adapt.optimizer.lr=0"], ["method.adapt.optimizer.lr=0", "above 0"]),
    "dropout of one": (["backbone.dropout=1"], ["backbone.dropout=1", "at most 0.99"]),
    "negative seed": (["seed=-1"], ["seed=-1"]),
    "unknown selection": (["selection=best"], ["selection='best'", "one of last", "oracle.\n"]),
    "unknown optimiser": (["train.optimizer.name=adm"], ["Did you mean 'adam'"]),
    "unknown schedule": (["train.optimizer.schedule=cosin"], ["Did you mean 'cosine'"]),
    "unknown input": (
        ["method=adda", "method.discriminator_input=logit"],
        ["Did you mean 'logits'"],
    ),
    "one beta": (["method.adapt.optimizer.betas=[0.5]"], ["a list of two"]),
    "unknown device": (["device.name=gpu"], ["device.name='gpu'", "Did you mean 'cuda'"]),
    "unknown device as a choice": (["device=gpu"], ["no such device", "Did you mean 'cuda'"]),
    "data that can have no source": (
        ["method=mcc", "data=mnist"],
        ["method=mcc needs a source domain, which this data does not have"],
    ),
    "values that a choice cannot do without": (
        ["data=texts", "backbone=text", "method=target_only", "data.target_labels=all"],
        ["data.target_file has no value", "backbone.name has no value", "set backbone.name=..."],
    ),
    "parts of a batch that is compared": (
        ["method=mcc", "train.accumulate=2"],
        ["method.adapt.accumulate=2", "couples", "Set method.adapt.accumulate=1"],
    ),
    "other classes in the target": (
        ["method=shot", "data=split_digits"],
        ["the same classes", "data.target_classes=[5,6,7,8,9]", "method=finetune"],
    ),
    "a model of another backbone": (
        ["backbone.name=resnet18"],
        ["no such backbone of tl-run's", "backbone=torchvision backbone.name=resnet18"],
    ),
    "a module that is not installed": (
        ["method.name=no_such_package.mine"],
        ["method.name=no_such_package.mine", "no package no_such_package", "PYTHONPATH"],
    ),
    "a key that one swept method lacks": (
        ["-m", "method=source_only,shot", "method.pseudo_weight=0.1,0.2"],
        ["method.pseudo_weight: method=source_only has no such key"],
    ),
    "precision the CPU lacks": (["device=cpu", "device.precision=fp16"], ["fp16", "bf16"]),
    "graphs without CUDA": (["device=cpu", "device.cuda_graphs=true"], ["device=cuda"]),
    "no validation images": (
        ["selection=source_val", "data.val_fraction=0"],
        ["data.val_fraction above 0"],
    ),
    "no validation images for dev": (
        ["selection=dev", "data.val_fraction=0"],
        ["selection=dev", "data.val_fraction above 0"],
    ),
    "no validation images to reverse on": (
        ["selection=reverse_validation", "data.val_fraction=0"],
        ["data.val_fraction above 0"],
    ),
    "oracle without labels": (
        ["method=target_only", "data.target_labels=0"],
        ["data.target_labels"],
    ),
    "several values without -m": (["seed=0,1"], ["Add -m"]),
    "added key": (["+foo=1"], ["foo", "no such key"]),
    "removed key": (["~train.epochs"], ["train.epochs", "neither added nor removed"]),
    "a group for a value": (["train.epochs={a: 1}"], ["train.epochs"]),
    "no key": (["adda"], ["expected key=value"]),
    "unknown flag": (["--sweep"], ["no such flag"]),
    "unreadable word": (["train.epochs=[1"], ["train.epochs=[1", "cannot be read"]),
    "no such config dir": (["--config-dir", "nowhere"], ["nowhere", "no such folder"]),
    "wrong dry run": (["dry_run=perhaps"], ["dry_run is true or false"]),
    "resume nothing": (["resume=nowhere"], ["nowhere", "no such folder"]),
    "resume and more": (["resume=nowhere", "seed=1"], ["no other keys"]),
    "wrong value in a sweep": (["-m", "method=adda", "method.hidden=5,x"], ["method.hidden='x'"]),
    "missing data": (["data=mnist2usps"], ["data.root", "data.download=true", "data=fonts2digits"]),
    "no method": (["method=null"], ["cannot do without a method"]),
    "method taken out": (["~method"], ["cannot do without a method"]),
    "Hydra's own sweep mode": (["hydra.mode=MULTIRUN"], ["write -m"]),
    "unknown key of Hydra's": (["hydra.foo=1"], ["hydra.foo"]),
    "unknown key inside a group": (["data.augment={foo: 1}"], ["data.augment.foo", "no such key"]),
    "wrong type by reference": (["train.epochs=${data.name}"], ["train.epochs='rendered'"]),
    "a batch of one": (["train.batch_size=1"], ["at least 2"]),
    "a part for a choice": (["-m", "data=glob(*)"], ["data=_digits", "no such data"]),
    "a domain to itself": (["data=mnist2usps", "data.source=usps"], ["both name usps"]),
    "a domain twice": (
        ["data=mnist2usps", "data.source=[svhn,svhn]"],
        ["data.source=['svhn', 'svhn']", "a list of different ones"],
    ),
    "an unknown domain": (
        ["data=mnist2usps", "data.source=mnsit"],
        ["data.source='mnsit'", "svhn, usps", "Did you mean 'mnist'"],
    ),
    "unknown domains": (
        ["data=digits_multi", "data.source=[mnist,minst]", "data.target=usp"],
        ["data.source=", "'usp'", "2 things"],
    ),
    "source and target": (["data=digits_multi", "data.target=[fonts]"], ["both name fonts"]),
    "impossible beside wrong": (
        ["method=adabn", "backbone.bn=frozen", "seed=-1"],
        ["seed=-1", "backbone.bn=frozen would keep them"],
    ),
    "a sweep's preset alone": (["debug=smok", "sweep=seeds"], ["debug=smok", "Add -m"]),
    "a key of another choice": (
        ["data.protocol=full"],
        ["data=digits_multi or mnist2mnistm or mnist2usps would have it"],
    ),
    "another spelling": (["method=DANN"], ["Did you mean 'dann'"]),
    "a number or a word": (
        ["data.target_labels=al"],
        ["of all or a whole number of at least 0 or null. Did you mean 'all'"],
    ),
    "a domain without its keys": (
        ["data=mnist2usps", "data.source=fonts"],
        ["data.per_face and data.jitter"],
    ),
    "missing SVHN": (
        ["data=svhn2mnist"],
        ["SVHN/train_32x32.mat", "data.download=true", "data=fonts2digits"],
    ),
    "two channels": (["data=svhn2mnist", "data.channels=2"], ["data.channels=2", "one of 1, 3"]),
    "tiny images": (["data=svhn2mnist", "data.size=4"], ["data.size=4", "at least 8"]),
    "images too small for LeNet": (
        ["data=digits_multi", "data.source=fonts", "data.target=digits", "data.size=12"],
        ["16x16"],
    ),
    "empty config dir": (["--config-dir="], ["needs a folder"]),
    "another sweeper": (["-m", "hydra/sweeper=ax", "seed=0,1"], ["-m sweep=tpe"]),
    "a launcher that is not there": (["-m", "hydra/launcher=proceses", "seed=0,1"], ["processes"]),
    "a sweep's run outside of its folder": (
        ["-m", "seed=0,1", "hydra.sweep.subdir=../${seed}"],
        ["does not lie in"],
    ),
    "a cache of another kind": (["cache.phases=maybe"], ["cache.phases='maybe'", "auto"]),
    "one folder for several runs": (
        ["-m", "seed=0,1", "hydra.sweep.subdir=x"],
        ["share one folder"],
    ),
    "no such CUDA device": (["device.name=cuda:7"], ["device=auto"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_commands(tl_run, tmp_path, name):
    words, said = COMMANDS[name]
    ended = tl_run(*words)
    assert ended.code == 2, ended.text
    for text in said:
        assert text in ended.err, ended.err
    assert "Traceback" not in ended.text
    assert ended.err.startswith("tl-run: ")
    assert not (tmp_path / "outputs").exists(), list((tmp_path / "outputs").rglob("*"))


def test_every_problem_of_a_command_is_shown_together(tl_run):
    ended = tl_run(
        "train.epoch=1", "seed=-1", "method=addda", "data.per_face=many", "device.precision=bf8"
    )
    assert ended.code == 2
    for text in (
        "5 things to mend",
        "train.epoch",
        "seed=-1",
        "addda",
        "per_face='many'",
        "precision='bf8'",
    ):
        assert text in ended.err


def test_a_misspelt_key_inside_a_users_experiment_is_found(tl_run, tmp_path):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "wrong.yaml").write_text(
        "# @package _global_\nmethod:\n  pseudo_wight: 3\n"
    )
    ended = tl_run("--config-dir", str(tmp_path / "mine"), "experiment=wrong")
    assert ended.code == 2
    assert "experiment/wrong.yaml" in ended.err
    assert "Did you mean 'method.pseudo_weight'" in ended.err


# ---- broken data


def empty(root):
    (root / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"")


def truncated_mnist(root):
    file = root / "MNIST/raw/train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])


def truncated_usps(root):
    file = root / "USPS/usps.bz2"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def swapped_mnist(root):
    a, b = (root / f"MNIST/raw/{n}-images-idx3-ubyte" for n in ("train", "t10k"))
    content = a.read_bytes(), b.read_bytes()
    a.write_bytes(content[1]), b.write_bytes(content[0])


def labels_for_images(root):
    shutil.copy(
        root / "MNIST/raw/train-labels-idx1-ubyte", root / "MNIST/raw/train-images-idx3-ubyte"
    )


def swapped_usps(root):
    a, b = root / "USPS/usps.bz2", root / "USPS/usps.t.bz2"
    content = a.read_bytes(), b.read_bytes()
    a.write_bytes(content[1]), b.write_bytes(content[0])


def not_bz2(root):
    (root / "USPS/usps.t.bz2").write_bytes(b"<html>404</html>")


def missing(root):
    (root / "USPS/usps.t.bz2").unlink()


def dark(root):
    write_idx(root / "MNIST/raw/train-images-idx3-ubyte", np.ones((60, 28, 28), dtype=np.uint8))


def wrong_size(root):
    write_idx(root / "MNIST/raw/train-images-idx3-ubyte", np.zeros((60, 20, 20), dtype=np.uint8))


BROKEN = {
    empty: "is empty",
    truncated_mnist: "damaged",
    truncated_usps: "damaged",
    swapped_mnist: "cut short or swapped",
    labels_for_images: "damaged",
    swapped_usps: "cut short or swapped",
    not_bz2: "damaged",
    missing: "not found",
    dark: "brightest pixel",
    wrong_size: "28x28",
}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda d: d.__name__)
def test_broken_data_files(tl_run, tmp_path, monkeypatch, damage):
    shrink(monkeypatch)
    root = make_root(tmp_path / "data")
    damage(root)
    ended = tl_run("data=mnist2usps", f"data.root={root}", "debug=smoke")
    assert ended.code == 2, ended.text
    assert BROKEN[damage] in ended.err
    assert "Traceback" not in ended.text
    assert not (tmp_path / "outputs").exists()


def test_a_data_root_that_is_a_file(tl_run, tmp_path):
    (tmp_path / "file").write_text("x")
    for more in ([], ["data.download=true"]):
        ended = tl_run("data=mnist2usps", f"data.root={tmp_path / 'file'}", *more)
        assert ended.code == 2
        assert "is a file" in ended.err


def test_a_data_root_that_cannot_be_written(tl_run, tmp_path, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)  # the tests may run as root, whom nothing is refused
    with pytest.raises(DataError, match="not writable"):
        MNIST.find(tmp_path / "data", download=True)


def test_a_failed_download_says_where_to_put_the_files(tl_run, tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(*_, **__):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(datasets, "MNIST", fail)
    ended = tl_run("data=mnist2usps", f"data.root={tmp_path / 'data'}", "data.download=true")
    assert ended.code == 2
    assert str(tmp_path / "data" / "MNIST/raw/train-images-idx3-ubyte") in ended.err
    assert "fonts2digits" in ended.err


# ---- broken checkpoints


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run that stopped after its pretraining: everything but the result."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    from tl_runner.cli import run as cli

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.chdir(folder.parent)
        patch.setattr("sys.argv", ["tl-run"])
        cli.main([*TINY, f"hydra.run.dir={folder}"])
    assert not ended.value.code
    (folder / "result.json").unlink()
    return folder


def cut_short(file):
    file.write_bytes(file.read_bytes()[:1000])


def no_checkpoint(file):
    file.write_text("hello")


def somebody_elses(file):
    torch.save({"weights": torch.zeros(3)}, file)


def a_pickle_that_runs_code(file):
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.system, ("touch pwned",))

    file.write_bytes(pickle.dumps(Evil()))


def of_another_backbone(file):
    state = torch.load(file, weights_only=True)
    state["config"]["backbone"]["batch_norm"] = False
    torch.save(state, file)


def of_other_shapes(file):
    state = torch.load(file, weights_only=True)
    state["method"] = {k: v for k, v in state["method"].items() if "layers.1" not in k}
    torch.save(state, file)


def of_a_later_format(file):
    state = torch.load(file, weights_only=True)
    torch.save({**state, "format": 99}, file)


CHECKPOINTS = {
    cut_short: "not a readable checkpoint",
    no_checkpoint: "not a readable checkpoint",
    somebody_elses: "not a checkpoint of tl-run",
    a_pickle_that_runs_code: "not a readable checkpoint",
    of_another_backbone: "backbone.batch_norm",
    of_other_shapes: "does not fit",
    of_a_later_format: "format 99",
}


@pytest.mark.parametrize("damage", CHECKPOINTS, ids=lambda d: d.__name__)
def test_broken_checkpoints(tl_run, tmp_path, interrupted, damage):
    folder = tmp_path / "run"
    shutil.copytree(interrupted, folder)
    damage(folder / "checkpoints" / "last.pt")
    before = (folder / "metrics.jsonl").read_bytes()
    ended = tl_run(f"resume={folder}")
    assert ended.code == 2, ended.text
    assert CHECKPOINTS[damage] in ended.err
    assert "Traceback" not in ended.text
    assert not (folder / "result.json").exists()
    assert not list(tmp_path.rglob("pwned"))
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_data_that_changed_since_the_run_began(tl_run, tmp_path, monkeypatch):
    shrink(monkeypatch)
    root = make_root(tmp_path / "data")
    words = (
        *(w for w in TINY if "per_face" not in w),
        "method=source_only",
        "data=mnist2usps",
        f"data.root={root}",
    )
    assert tl_run(*words, f"hydra.run.dir={tmp_path / 'run'}").code == 0
    (tmp_path / "run" / "result.json").unlink()
    labels = root / "MNIST/raw/train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:8] + bytes(60))
    ended = tl_run(f"resume={tmp_path / 'run'}")
    assert ended.code == 2
    assert "train-labels-idx1-ubyte changed since" in ended.err


def test_a_folder_that_holds_another_run_is_not_written_into(tl_run, tmp_path):
    words = (*TINY, "method=source_only", f"hydra.run.dir={tmp_path / 'run'}")
    assert tl_run(*words).code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    ended = tl_run(*words, "seed=5")
    assert ended.code == 2
    assert "holds another run" in ended.err
    assert before == {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}


def test_a_second_sweep_does_not_write_over_the_first(tl_run, tmp_path):
    words = ("-m", *TINY, "method=source_only", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert tl_run(*words, "seed=0,1").code == 0
    before = {p: p.read_bytes() for p in (tmp_path / "sweep").rglob("*") if p.is_file()}
    assert tl_run(*words, "seed=0,2").code == 2
    assert before == {p: p.read_bytes() for p in (tmp_path / "sweep").rglob("*") if p.is_file()}


def test_an_empty_folder_of_the_users_stays(tl_run, tmp_path):
    (tmp_path / "mine").mkdir()
    assert tl_run("data=mnist2usps", f"hydra.run.dir={tmp_path / 'mine'}").code == 2
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hidden: 3\n", "with a name"),
        ("just words\n", "with a name"),
        ("a: [\n", "expected"),
        ("defaults: [adda]\nnme: 3\n", "nme"),
    ],
)
def test_a_users_broken_method_config(tl_run, tmp_path, text, said):
    (tmp_path / "own" / "method").mkdir(parents=True)
    (tmp_path / "own" / "method" / "mine.yaml").write_text(text)
    ended = tl_run("--config-dir", str(tmp_path / "own"), *TINY, "method=mine")
    assert ended.code == 2, ended.text
    assert said in ended.err
    assert "Traceback" not in ended.text


@pytest.mark.parametrize("damage", [b"\xff\xfe", b"seed: 1", b"[1, 2]"])
def test_a_damaged_hydra_folder(tl_run, tmp_path, interrupted, damage):
    shutil.copytree(interrupted, tmp_path / "run")
    (tmp_path / "run" / ".hydra" / "overrides.yaml").write_bytes(damage)
    ended = tl_run(f"resume={tmp_path / 'run'}")
    assert ended.code == 2, ended.text
    assert "Traceback" not in ended.text


def test_a_method_may_not_train_on_test_images(tl_run, tmp_path, monkeypatch):
    (tmp_path / "cheat.py").write_text(
        "from tl_runner.methods.finetuning.target_only import TargetOnly\n\n\nclass "
        "Cheat(TargetOnly):\n"
        "    def phases(self):\n        return [self.supervised('supervise', self.supervise, "
        "{'target': SPLIT})]\n\n\n"
        "SPLIT = 'target_test'\n"
    )
    (tmp_path / "pkg").mkdir()
    (tmp_path / "cheat.py").rename(tmp_path / "pkg" / "cheat.py")
    (tmp_path / "pkg" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    words = (*TINY, "method=target_only", "method.name=pkg.cheat")
    ended = tl_run(*words)
    assert ended.code == 2
    assert "not for training" in ended.err
    import pkg.cheat

    pkg.cheat.SPLIT = "target_labelled"
    assert tl_run(*words, f"hydra.run.dir={tmp_path / 'run'}").code == 0
    (result,) = results(tmp_path)
    assert result["uses_target_labels"] is True  # read from what the phases read


def test_a_folder_that_is_no_run(tl_run, tmp_path):
    (tmp_path / "x").mkdir()
    ended = tl_run(f"resume={tmp_path / 'x'}")
    assert ended.code == 2
    assert "is no folder of a run or a sweep" in ended.err
    assert "Name the folder that a run or a sweep left" in ended.err


@pytest.mark.parametrize(
    ("key", "right"),
    [
        ("train.lr", "train.optimizer.lr"),
        ("lr", "train.optimizer.lr"),
        ("epochs", "train.epochs"),
        ("method.adapt.betas", "method.adapt.optimizer.betas"),
        ("method.adpat.epochs", "method.adapt.epochs"),
        ("trian.lr", "train.optimizer.lr"),
    ],
)
def test_the_nearest_key_has_the_same_last_word(tl_run, key, right):
    ended = tl_run("dry_run=true", "method=mcc", f"{key}=1")
    assert ended.code == 2
    assert f"Did you mean '{right}'?" in ended.err


# ---- failures while running


def test_a_full_disk(tl_run, tmp_path, monkeypatch):
    """The second checkpoint meets a full disk: exit 1, no half-written file, the first one stands
    and resumes."""
    real, count = os.fsync, []

    def full(handle):
        count.append(1)
        if len(count) >= 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        ended = tl_run(*TINY, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 1, ended.text
    assert "The disk is full" in ended.err
    assert "resume=" in ended.err
    assert not list(tmp_path.rglob("*.tmp"))
    assert torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["format"] == 1
    assert tl_run(f"resume={tmp_path / 'run'}").code == 0


def test_a_diverging_loss_fails_the_run_and_says_what_to_try(tl_run, tmp_path):
    words = (
        "method=source_only",
        "train.optimizer.lr=1e30",
        "train.optimizer.name=sgd",
        "backbone.batch_norm=false",
    )
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 1, ended.text
    assert "cross_entropy became" in ended.err
    assert "learning rate" in ended.err
    (result,) = results(tmp_path)
    assert result["status"] == "failed"
    assert "DivergedError" in (tmp_path / "run" / "run.log").read_text()


def test_a_failed_job_does_not_stop_a_sweep(tl_run, tmp_path):
    words = (
        "method=source_only",
        "train.optimizer.name=sgd",
        "backbone.batch_norm=false",
        "train.optimizer.lr=1e30,0.01",
    )
    ended = tl_run("-m", *TINY, *words, f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert ended.code == 1, ended.text
    assert [r["status"] for r in results(tmp_path)] == ["failed", "done"]
    names = sorted(p.name for p in (tmp_path / "sweep").iterdir() if p.is_dir())
    assert names == ["0-source_only-fonts2digits-s0", "1-source_only-fonts2digits-s0"]


def test_an_unforeseen_error_leaves_its_traceback_in_the_log(tl_run, tmp_path, monkeypatch):
    from tl_runner.training import evaluator as evaluation

    def broken(*_):
        raise RuntimeError("surprise")

    monkeypatch.setattr(evaluation, "label_free", broken)
    ended = tl_run(*TINY, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 1
    assert "surprise" in ended.err
    assert "Traceback" not in ended.text
    assert "Traceback" in (tmp_path / "run" / "run.log").read_text()
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "failed"
