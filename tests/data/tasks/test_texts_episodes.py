"""Few-shot tasks of texts from a table: parts of its classes, and learners on text encoders."""

from __future__ import annotations

import pytest

from support.encoders import make_encoder, sentences, write_table
from tl_runner.build.texts import as_read
from tl_runner.data.tasks.texts_episodes import load
from tl_runner.errors import DataError

SETTINGS = {
    "text": "text",
    "label": "label",
    "part": None,
    "ways": 2,
    "shots": 2,
    "queries": 1,
    "training": {"ways": None, "shots": None, "queries": None},
    "tasks": {"val": 4, "test": 8},
    "classes": {"val": 2, "test": 2},
    "small_classes": "fail",
    "seed": 0,
}
CLASSES = ("a", "b", "c", "d", "e", "f", "g", "h")


def rows(each=5, parts=None):
    """``each`` made-up texts of every class, a class's number in them."""
    texts = [text for text, _ in sentences(each * len(CLASSES), 3)]
    found = []
    for i, text in enumerate(texts):
        name = CLASSES[i % len(CLASSES)]
        row = {"text": f"{text} {name}", "label": name}
        found.append(row | ({"part": parts[name]} if parts else {}))
    return found


def task_of(tmp_path, table, **more):
    return load(**SETTINGS | {"target_file": str(write_table(tmp_path / "t.csv", table))} | more)


def classes_of(task):
    """The classes of each part, by what its texts end with."""
    return {
        name: {task.texts[i].split()[-1] for i in split.x.flatten().tolist()}
        for name, split in task.samples().items()
    }


def test_classes_are_drawn_into_parts_and_labels_go_with_their_texts(tmp_path):
    task = task_of(tmp_path, [*rows(), {"text": "of none", "label": ""}])
    found = classes_of(task)
    assert {name: len(own) for name, own in found.items()} == {
        "meta_train": 4,
        "meta_val": 2,
        "meta_test": 2,
    }
    assert set.union(*found.values()) == {*CLASSES}
    assert "1 texts without a label are left out" in task.notes[0]
    for split in task.samples().values():
        by_label = {}
        for i, y in zip(split.x.flatten().tolist(), split.y.tolist(), strict=True):
            by_label.setdefault(y, set()).add(task.texts[i].split()[-1])
        assert all(len(names) == 1 for names in by_label.values())
    again = classes_of(task_of(tmp_path, rows(), seed=1))
    assert again != found


def test_a_column_says_which_classes_are_for_what(tmp_path):
    parts = (
        dict.fromkeys("abcd", "train") | dict.fromkeys("ef", "val") | dict.fromkeys("gh", "test")
    )
    task = task_of(tmp_path, rows(parts=parts), part="part")
    assert classes_of(task) == {
        "meta_train": {*"abcd"},
        "meta_val": {*"ef"},
        "meta_test": {*"gh"},
    }


@pytest.mark.parametrize(
    ("table", "more", "said"),
    [
        (rows(2), {}, "a task takes 3 texts of a class, and some have fewer: a 2"),
        (rows(), {"classes": {"val": 4, "test": 4}}, "leave 0 for training"),
        (rows(), {"label": "lable"}, "has no column lable. Did you mean 'label'?"),
        (rows(parts=dict.fromkeys(CLASSES, "trian")), {"part": "part"}, "'trian', and parts are"),
        (rows(parts=dict.fromkeys(CLASSES, "train")), {"part": "part"}, "whose part is test"),
        (
            [
                *rows(parts=dict.fromkeys(CLASSES, "train")),
                *rows(parts=dict.fromkeys("abcdefgh", "test")),
            ],
            {"part": "part"},
            "the class a is in train and in test",
        ),
    ],
)
def test_a_table_that_makes_no_tasks_is_refused(tmp_path, table, more, said):
    with pytest.raises(DataError, match=said):
        task_of(tmp_path, table, **more)


def test_small_classes_may_be_left_out(tmp_path):
    table = [row for i, row in enumerate(rows()) if row["label"] != "a" or i < 8]
    task = task_of(tmp_path, table, small_classes="skip")
    assert "1 classes of too few texts left out" in task.protocol
    assert "a" not in set.union(*classes_of(task).values())


def test_tasks_are_of_what_a_backbone_reads(tmp_path):
    task = task_of(tmp_path, rows())
    options = {"name": "tfidf", "max_features": 50, "ngrams": 1, "sublinear": True}
    read, reader = as_read(task, options)
    assert reader is not None
    assert read.shape == read.episodes["meta_test"].shape
    assert read.shape[0] > 1
    split, own = task.samples()["meta_test"], read.samples()["meta_test"]
    expected = reader([task.texts[i] for i in split.x.flatten().tolist()])
    assert (own.x == expected).all()
    assert (own.y == split.y).all()


def test_learners_of_tasks_run_on_encoders(tl_run, tmp_path):
    pytest.importorskip("transformers")
    table = write_table(tmp_path / "t.csv", rows(16))
    words = (
        *("debug=smoke", "device=cpu", "figures=false", "data=texts_episodes"),
        *(f"data.target_file={table}", "data.ways=2", "data.training.ways=null"),
        *("data.classes.val=2", "data.classes.test=2", f"cache.dir={tmp_path / 'cache'}"),
        *("backbone=text", f"backbone.name={make_encoder(tmp_path / 'encoder')}"),
    )
    frozen = ("backbone.frozen=true", "backbone.bottleneck=8")
    runs = {
        "prototypes": ("method=protonet",),
        "prototypes_frozen": ("method=protonet", *frozen),
        "inner": ("method=maml", *frozen),
    }
    for name, more in runs.items():
        ended = tl_run(*words, *more, f"hydra.run.dir={tmp_path / name}")
        assert ended.code == 0, ended.text
    ended = tl_run(*words, "method=protonet", "backbone.frozen=true")
    assert ended.code == 2
    assert "has nothing to train" in ended.text
    ended = tl_run(*words, "method=maml")
    assert ended.code == 2
    assert "method=maml adapts weights to every task, which a text encoder's cannot" in ended.text
