"""Folders that hold links, folders without permission, names in two forms, or pictures twice."""

from __future__ import annotations

import os
import shutil
from unicodedata import normalize

import pytest
from PIL import Image

from support.folders import fill, task_of
from tl_runner.data.listing import NONE, listing_of
from tl_runner.data.tasks import folder_episodes
from tl_runner.errors import DataError

CLASSES = ("cat", "ship")
HEAP = ("cat", "ship", "truck")  # a source's classes, of which a heap's folders are none


def linked(root, links):
    """Links by their places in a folder, each to what its text says."""
    for place, to in links.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(to)
    return root


# (folders and pictures in each, links, the pictures found, how many files ignored, links in a note)
LINKS = {
    "a folder of a class": (
        {"cat": 1, "ship": 1, "../more/deep": 1},
        {"cat/2026": "../../more"},
        ["cat/0", "cat/2026/deep/0", "ship/0"],
        0,
        [],
    ),
    "a class": ({"ship": 1, "../more": 1}, {"cat": "../more"}, ["cat/0", "ship/0"], 0, []),
    "files": (
        {"cat": 1, "ship": 1},
        {"cat/1.png": "../ship/0.png"},
        ["cat/0", "cat/1", "ship/0"],
        0,
        [],
    ),
    "circles": (
        {"cat": 1, "ship/a": 1},
        {"cat/all": "../..", "cat/self": ".", "ship/a/up": ".."},
        ["cat/0", "ship/a/0"],
        3,
        [],
    ),
    "a folder beside its own link": (
        {"cat/b": 1, "ship": 1},
        {"cat/a": "b", "cat/c": "b"},
        ["cat/b/0", "ship/0"],
        2,
        [],
    ),
    "links that lead nowhere": (
        {"cat": 1, "ship": 1},
        {"cat/1.png": "nowhere.png", "frog": "nowhere", "ship/x": "x", "ship/.x": "nowhere"},
        ["cat/0", "ship/0"],
        3,
        ["frog, cat/1.png, ship/x"],
    ),
}


@pytest.mark.parametrize("row", LINKS)
def test_links_are_followed_or_counted(tmp_path, row):
    places, links, pictures, ignored, noted = LINKS[row]
    root = linked(fill(tmp_path / "pets", places), links)
    found = listing_of(root, "target")
    assert found.classes == CLASSES
    assert [str(f.relative_to(root).with_suffix("")) for f in found.files] == pictures
    assert [found.classes[i] for i in found.labels] == [p.partition("/")[0] for p in pictures]
    assert found.ignored == ignored
    assert [note.partition("lead nowhere: ")[2] for note in found.notes] == noted


def test_links_of_a_heap_are_followed(tmp_path):
    root = linked(fill(tmp_path / "heap", {"2026/june": 2, "../july/week 1": 3}), {})
    linked(root, {"2026/july": tmp_path / "july", "2026/again": "june", "2026/gone": "nowhere"})
    found = listing_of(root, "target", known=HEAP, labels_wanted=False)
    assert {f.parent.relative_to(root).as_posix() for f in found.files} == {
        "2026/june",
        "2026/july/week 1",
    }
    assert found.labels == (NONE,) * 5
    assert found.ignored == 2


def test_what_is_no_file_is_counted_and_not_waited_for(tmp_path):
    root = fill(tmp_path / "pets", {"train/cat": 1, "train/ship": 1, "test/cat": 1})
    for place in ("train/cat/pipe.png", "train/pipe", "beside the parts"):
        os.mkfifo(root / place)
    assert listing_of(root, "target").ignored == 3


@pytest.mark.parametrize("place", ["", "cat", "cat/deep"])
def test_a_folder_without_permission_is_named(tmp_path, monkeypatch, place):
    root, real = fill(tmp_path / "pets", {"cat/deep": 2, "ship": 2}), os.listdir

    def refused(folder):
        if folder == root / place:
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(DataError) as said:
        listing_of(root, "target")
    assert str(said.value).startswith(f"{root / place} cannot be read (Permission denied)")
    assert f"chmod -R u+rX '{root / place}'" in str(said.value)


def test_a_link_to_what_may_not_be_looked_at_is_named(tmp_path, monkeypatch):
    root = linked(fill(tmp_path / "pets", {"cat": 2, "ship": 2}), {"cat/more": tmp_path / "x/y"})
    real = type(root).stat

    def refused(path, **more):
        if path == root / "cat" / "more":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(type(root), "stat", refused)
    with pytest.raises(DataError, match=f"{root}/cat/more cannot be read .*chmod u.x '.*/x'"):
        listing_of(root, "target")


# ---- names

FORMS = [normalize(form, "Gebäude") for form in ("NFC", "NFD")]


@pytest.mark.parametrize(("source", "target"), [FORMS, FORMS[::-1]])
def test_a_class_is_one_in_either_form_of_unicode(tmp_path, source, target):
    more = fill(tmp_path / "source", {"cat": 5, source: 5})
    root = fill(tmp_path / "target", {"cat": 5, target: 5})
    task = task_of(root, tmp_path, source_dir=str(more))
    assert task.classes == (FORMS[0], "cat")
    assert task.source_classes is None
    assert len(task.splits["target_test"]) == 10
    assert listing_of(root, "target", chosen=[source]).classes == (FORMS[0],)


def test_two_forms_in_one_folder_are_one_class(tmp_path):
    root = fill(tmp_path / "pets", {"cat": 1, **dict.fromkeys(FORMS, 2)})
    found = listing_of(root, "target")
    assert found.classes == (FORMS[0], "cat")
    assert found.labels == (0, 0, 0, 0, 1)
    assert {f.parent.name for f in found.files} == {"cat", *FORMS}


@pytest.mark.parametrize("name", ["ca\nt", "cat\x1b[31m", "c\x7f", "cat\u2028", "ca\udce9"])
def test_a_control_character_is_in_no_name_of_a_class(tmp_path, name):
    root = fill(tmp_path / "pets", {"ship": 1, name: 1})
    with pytest.raises(DataError) as said:
        listing_of(root, "target")
    assert repr(name) in str(said.value)
    assert name not in str(said.value)
    heap = listing_of(root, "target", known=HEAP[1:], labels_wanted=False, chosen=["ship"])
    assert heap.classes == ("ship",)


# ---- pictures twice

PARTS = {"train/cat": 4, "train/ship": 4}


def twice(root, how):
    if how == "linked":
        return linked(root, {"test": "train"})
    shutil.copytree(root / "train", root / "test")
    for file in (root / "test").rglob("*.png"):
        if how == "new":
            Image.new("RGB", (8, 8), (int(file.stem), 90, 9)).save(file)
        else:
            file.rename(file.with_name(f"other {file.name}"))
    return root


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize(("how", "noted"), [("linked", 1), ("copied", 1), ("new", 0)])
def test_test_pictures_that_train_are_said(tmp_path, domain, how, noted):
    root = twice(fill(tmp_path / "pets", PARTS), how)
    other = fill(tmp_path / "other", {"cat": 5, "ship": 5}, brightness=0.9)
    pair = {"source": root, "target": other} if domain == "source" else {"target": root}
    more = {"source_dir": str(pair["source"])} if domain == "source" else {}
    task = task_of(pair["target"], tmp_path, target_labels="all", val_fraction=0.25, **more)
    said = [note for note in task.notes if "test pictures" in note]
    assert len(said) == noted
    for note in said:
        assert f"8 of 8 test pictures of the {domain} are also in its training part, with" in note


def test_copies_among_pictures_that_are_adapted_to_are_said_of_those_with_labels(tmp_path):
    other = fill(tmp_path / "other", {"cat": 5, "ship": 5}, brightness=0.9)
    root = fill(tmp_path / "pets", {"cat": 3, "ship": 3})
    for i in range(1, 4):  # of four alike training sees three with their labels
        shutil.copy(root / "cat" / "0.png", root / "cat" / f"{i}.png")

    def said(**more):
        task = task_of(root, tmp_path, source_dir=str(other), val_fraction=0.0, **more)
        return [note for note in task.notes if "test pictures" in note]

    assert not said(transductive=True, target_labels=0)
    (note,) = said(transductive=True, target_labels=3)
    assert note.startswith("1 of 1 test pictures of the target")
    assert "with their labels" in note
    heap = fill(tmp_path / "heap", {"test/cat": 2, "test/ship": 2})
    shutil.copytree(heap / "test" / "cat", heap / "train")
    task = task_of(heap, tmp_path, source_dir=str(other))
    assert "2 of 4 test pictures of the target are also in its training part, without" in " ".join(
        task.notes
    )


def test_few_shot_folders_say_what_they_pass_over(tmp_path):
    root = linked(fill(tmp_path / "pets", dict.fromkeys("abcdef", 2)), {"a/gone.png": "nowhere"})
    task = folder_episodes.load(
        target_dir=str(root),
        **{"size": 8, "channels": 3, "fit": "crop", "unreadable": "fail", "workers": 0},
        **{"cache": str(tmp_path / "cache"), "ways": 2, "shots": 1, "queries": 1, "training": {}},
        tasks={"val": 2, "test": 2},
        classes={"val": 2, "test": 2},
        rotations={},
        small_classes="fail",
        seed=0,
    )
    assert "1 other files ignored" in task.protocol
    assert "lead nowhere: a/gone.png" in task.notes[0]
