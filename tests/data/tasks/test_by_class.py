"""One set as two tasks by its classes, and CIFAR-10 from files made up here in its own format."""

from __future__ import annotations

import pickle

import pytest
import torch

from support import made_digits
from support.runs import TINY, results
from tl_runner.data.domains.cifar10 import CIFAR10, FOLDER
from tl_runner.data.tasks.by_class import load
from tl_runner.data.tasks.digits import load as load_digits
from tl_runner.errors import ConfigError, DataError

SETTINGS = {
    "of": "digits",
    "source_classes": [0, 1, 2],
    "target_classes": [7, 5],
    "root": "nowhere",
    "download": False,
    "size": 28,
    "channels": 1,
    "val_fraction": 0.1,
    "target_labels": "all",
    "seed": 0,
}


def task_of(**more):
    return load(**{**SETTINGS, **more})


def test_each_part_has_its_own_classes_and_no_image_twice():
    task = task_of()
    # in the domain's order
    assert (task.source_classes, task.classes) == (("0", "1", "2"), ("5", "7"))
    assert sorted(task.splits) == sorted(
        [
            "source_train",
            "source_val",
            "source_test",
            "target_train",
            "target_labelled",
            "target_val",
            "target_test",
        ]
    )
    for name, split in task.splits.items():
        if split.y is not None:
            assert split.y.unique().tolist() == list(range(3 if name.startswith("source") else 2))
    ids = torch.cat(
        [
            task.splits[name].ids
            for name in ("source_train", "source_val", "target_train", "target_val")
        ]
    )
    assert len(ids.unique()) == len(ids)
    images = {
        bytes(x.numpy().tobytes())
        for name in ("target_train", "target_val")
        for x in task.splits[name].x
    }
    assert not images & {bytes(x.numpy().tobytes()) for x in task.splits["target_test"].x}


def test_labels_are_those_of_the_domain():
    whole = load_digits(
        source="digits",
        target="fonts",
        root="",
        download=False,
        protocol="full",
        size=28,
        channels=1,
        val_fraction=0.0,
        target_labels=0,
        seed=0,
        per_face=1,
        jitter={},
    )
    by_image = {
        x.numpy().tobytes(): int(y)
        for x, y in zip(whole.splits["source_train"].x, whole.splits["source_train"].y, strict=True)
    }
    labelled = task_of().splits["target_labelled"]
    for x, y in zip(labelled.x[:50], labelled.y[:50], strict=True):
        assert by_image[x.numpy().tobytes()] == (5, 7)[int(y)]


def test_target_classes_default_to_the_others_and_source_classes_to_none():
    assert task_of(target_classes=None).classes == tuple("3456789")
    alone = task_of(source_classes=None, target_classes=None)
    assert alone.classes == tuple("0123456789")
    assert alone.source_classes is None
    assert not [name for name in alone.splits if name.startswith("source")]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"target_classes": [2, 5]}, "both name 2"),
        (
            {"source_classes": ["seven", 1]},
            "data.source_classes: there is no class seven. There are 0, 1",
        ),
        ({"of": "cifer10"}, "Did you mean 'cifar10'"),
        ({"of": "fonts"}, "the domain fonts needs data.per_face"),
    ],
)
def test_what_is_wrong_is_said(more, said):
    with pytest.raises((DataError, ConfigError), match=said):
        task_of(**more)


def test_photographs_are_no_domain_of_digits(made_up_root):
    with pytest.raises(ConfigError, match="names cifar10, which is not of digits"):
        load_digits(
            source="cifar10",
            target="mnist",
            root=str(made_up_root),
            download=False,
            protocol="full",
            size=28,
            channels=1,
            val_fraction=0.1,
            target_labels=0,
            seed=0,
        )


def test_cifar10_as_torchvision_reads_it(made_up_root):
    task = task_of(
        of="cifar10",
        source_classes=None,
        target_classes=None,
        root=str(made_up_root),
        size=32,
        channels=3,
        val_fraction=0.0,
    )
    content = pickle.loads((made_up_root / FOLDER / "data_batch_1").read_bytes())
    images = torch.tensor(content["data"]).view(-1, 3, 32, 32)
    assert torch.equal(task.splits["target_labelled"].x[: len(images)], images)
    assert task.splits["target_labelled"].y[: len(images)].tolist() == content["labels"]
    assert task.classes == CIFAR10.classes
    assert len(task.checksums) == 7


def test_a_cifar10_that_is_not_the_published_one_is_not_unpickled(tmp_path):
    made_digits.make_cifar10(tmp_path)  # the sums are not patched here
    (tmp_path / FOLDER / "data_batch_1").write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(DataError, match="CIFAR-10 cannot be read"):
        task_of(of="cifar10", source_classes=None, target_classes=None, root=str(tmp_path))


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle ran",))


def test_a_missing_cifar10_says_what_to_do(tl_run, tmp_path):
    ended = tl_run(
        *[w for w in TINY if not w.startswith("data.")],
        "data=cifar10",
        "method=target_only",
        f"data.root={tmp_path}",
    )
    assert ended.code == 2
    assert "CIFAR-10 is not complete" in ended.err
    assert "data.download=true" in ended.err


def test_what_was_forgotten_is_in_the_record(tl_run, tmp_path):
    words = [w for w in TINY if not w.startswith("data.")]
    for method in ("lwf", "joint"):
        ended = tl_run(
            *words,
            f"method={method}",
            "data=split_digits",
            "data.per_face=2",
            f"hydra.run.dir={tmp_path / method}",
        )
        assert ended.code == 0, ended.text
    for result in results(tmp_path):
        before = result["phases"][0]["metrics"]["source_test"]["accuracy"]
        assert result["forgetting"] == before - result["metrics"]["source_test"]["accuracy"]
        assert [p["name"] for p in result["phases"]] == ["pretrain", "warm_up", "finetune"]


def test_no_source_is_said_by_the_key_that_would_name_one(tl_run):
    ended = tl_run("data=split_digits", "data.source_classes=null", "method=finetune")
    assert ended.code == 2
    assert "set data.source_classes, or set method.pretrain.epochs=0" in ended.err
