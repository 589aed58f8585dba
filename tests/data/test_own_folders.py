"""Folders of pictures as people have them: a row each, what is read of it or what is said.

Every row is made here, and what is right was worked out by hand: classes, how many pictures train
and test, how many have no label, and pixels where these are the point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.folders import fill, grey_levels, task_of
from support.runs import results
from tl_runner.errors import DataError

CLASSES = ("cat", "ship", "truck")


def tree(*places: str, n: int = 4) -> dict[str, int]:
    """So many pictures in each place."""
    return dict.fromkeys(places, n)


def in_each(part: str, n: int = 4) -> dict[str, int]:
    return tree(*(f"{part}/{c}" if part else c for c in CLASSES), n=n)


# (target's folders and how many pictures in each, what load is told, the splits' sizes)
READ = {
    "class folders": (in_each("", 5), {}, {"train": 15, "test": 15}),
    "class folders, labels seen": (
        in_each("", 5),
        {"target_labels": "all", "val_fraction": 0.2},
        {"train": 9, "labelled": 9, "val": 3, "test": 3},
    ),
    "class folders, one label a class": (
        in_each("", 5),
        {"target_labels": 1, "val_fraction": 0.0},
        {"train": 12, "labelled": 3, "test": 3},
    ),
    "class folders, held out": (
        in_each("", 5),
        {"transductive": False, "val_fraction": 0.0},
        {"train": 12, "test": 3},
    ),
    "class folders, labels seen, tested on the rest": (
        in_each("", 5),
        {"target_labels": 1, "transductive": True, "val_fraction": 0.0},
        {"train": 15, "labelled": 3, "test": 12},
    ),
    "a heap": (tree(".", n=7), {}, {"train": 7}),
    "a heap of one picture": (tree(".", n=1), {}, {"train": 1}),
    "a heap in one folder": (tree("unknown", n=7), {}, {"train": 7}),
    "a heap in a folder of any name": (tree("2026-07", n=7), {}, {"train": 7}),
    "a nested heap": (tree("2026/a", "2026/b", n=3), {}, {"train": 6}),
    "a heap in several folders": (tree("monday", "tuesday", n=3), {}, {"train": 6}),
    "a heap beside folders of a heap": (tree(".", "more", n=3), {}, {"train": 6}),
    "a heap to train on, classes to test on": (
        tree("train", n=6) | in_each("test", 2),
        {},
        {"train": 6, "test": 6},
    ),
    "a nested heap to train on": (
        tree("train/x", "train/y", n=3) | in_each("test", 2),
        {},
        {"train": 6, "test": 6},
    ),
    "some classes to test on": (
        tree("train", n=6) | tree("test/cat", "test/ship", n=2),
        {},
        {"train": 6, "test": 4},
    ),
    "heaps in both parts": (tree("train", "test", n=4), {}, {"train": 4}),
    "classes and some without": (
        in_each("", 5) | tree("unknown", n=6),
        {"val_fraction": 0.0},
        {"train": 18, "labelled": 12, "test": 3},
    ),
    "classes and some unlabelled": (
        in_each("", 5) | tree("Unlabelled", n=6),
        {"val_fraction": 0.0, "target_labels": 2},
        {"train": 18, "labelled": 6, "test": 3},
    ),
    "classes and some without, no label seen": (
        in_each("", 5) | tree("unknown", n=6),
        {"target_labels": 0},
        {"train": 21, "test": 15},
    ),
    "train, val, test": (
        in_each("train") | in_each("val", 2) | in_each("test", 3),
        {"target_labels": "all"},
        {"train": 12, "labelled": 12, "val": 6, "test": 9},
    ),
    "train, valid, test": (
        in_each("train") | in_each("valid", 2) | in_each("test", 3),
        {"target_labels": "all"},
        {"train": 12, "labelled": 12, "val": 6, "test": 9},
    ),
    "Train, Val, Test": (
        in_each("Train") | in_each("Val", 2) | in_each("Test", 3),
        {"target_labels": "all"},
        {"train": 12, "labelled": 12, "val": 6, "test": 9},
    ),
    "training_set, validation_set, test_set": (
        in_each("training_set") | in_each("validation_set", 2) | in_each("test_set", 3),
        {"target_labels": "all"},
        {"train": 12, "labelled": 12, "val": 6, "test": 9},
    ),
    "TRAINING and testing": (
        in_each("TRAINING") | in_each("testing", 3),
        {"target_labels": "all", "val_fraction": 0.25},
        {"train": 9, "labelled": 9, "val": 3, "test": 9},
    ),
    "train alone": (in_each("train", 5), {}, {"train": 15, "test": 15}),
    "loose pictures beside classes": (
        in_each("", 5) | tree(".", n=9),
        {},
        {"train": 15, "test": 15},
    ),
    "a test part of loose pictures beside classes": (
        in_each("train", 5) | tree("test", n=9),
        {},
        {"train": 15, "test": 15},
    ),
    "deep class folders": (
        tree(*(f"{c}/a/b" for c in CLASSES), n=2),
        {"target_classes": list(CLASSES)},
        {"train": 6, "test": 6},
    ),
    "a class that is called train": (
        tree("train", "cat", "ship", n=3),
        {"source": ("train", "cat", "ship")},
        {"train": 9, "test": 9},
    ),
    "hidden files and folders": (
        in_each("", 5) | tree(".thumbs", "cat/.thumbs", n=3),
        {},
        {"train": 15, "test": 15},
    ),
}


@pytest.mark.parametrize("row", READ)
def test_what_is_read(tmp_path, row):
    folders, more, sizes = READ[row]
    more = dict(more)
    source = fill(tmp_path / "source", dict.fromkeys(more.pop("source", CLASSES), 5))
    target = fill(tmp_path / "target", folders)
    task = task_of(target, tmp_path, source_dir=str(source), **more)
    found = {n.partition("_")[2]: len(s) for n, s in task.splits.items() if n.startswith("target")}
    assert found == sizes
    assert task.splits["target_train"].y is None
    for name, split in task.splits.items():
        assert split.y is None or int(split.y.min()) >= 0, name
    if "test" in sizes:  # the colour of every picture says its class
        test = task.splits["target_test"]
        shades = test.x[:, 0].float().mean((1, 2))
        assert torch.equal(test.y, grey_levels(task.classes, shades))
    labelled = {"train", "labelled"} <= sizes.keys() and sizes["train"] == sizes["labelled"]
    assert bool(task.every_label) is labelled


def test_a_heap_has_the_classes_of_the_source_and_names_its_files(tmp_path):
    source = fill(tmp_path / "source", in_each("", 5))
    target = fill(tmp_path / "target", tree("b", "a", n=2))
    task = task_of(target, tmp_path, source_dir=str(source))
    assert task.classes == CLASSES
    assert task.source_classes is None
    assert sorted(task.files["target"]) == ["a/0.png", "a/1.png", "b/0.png", "b/1.png"]
    names = [task.files["target"][i] for i in task.splits["target_train"].ids]
    assert sorted(names) == sorted(task.files["target"])
    assert "none of its folders (a, b) is a class of the source (cat, ship, truck)" in task.notes[0]
    assert "4 pictures without labels, and none to test on" in task.protocol


def test_the_same_pictures_are_in_the_same_order_wherever_they_lie(tmp_path):
    source = fill(tmp_path / "source", in_each("", 5))
    classes = fill(tmp_path / "classes", in_each("", 4))
    heap = tmp_path / "heap"
    heap.mkdir()
    for i, file in enumerate(sorted(classes.rglob("*.png"), reverse=True)):
        (heap / f"{i:02}.png").write_bytes(file.read_bytes())
    one, other = (task_of(t, tmp_path, source_dir=str(source)) for t in (classes, heap))
    assert torch.equal(one.splits["target_train"].x, other.splits["target_train"].x)
    assert "target_test" not in other.splits
    labels = one.splits["target_test"].y
    assert not torch.equal(labels, labels[one.splits["target_train"].ids.argsort().argsort()])


# (target's folders, what load is told, what the message must hold)
REFUSED = {
    "domains": (
        tree(*(f"{d}/{c}" for d in ("amazon", "webcam") for c in CLASSES)),
        {"target_labels": "all"},
        [
            "amazon, webcam hold no picture",
            "cat, ship, truck recur",
            "one level",
        ],
    ),
    "domains beside a source": (
        tree(*(f"{d}/{c}" for d in ("amazon", "webcam") for c in CLASSES)),
        {},
        ["these look like parts or domains"],
    ),
    "images and masks": (
        tree(*(f"{c}/{k}" for c in ("rust", "scratch") for k in ("images", "masks"))),
        {"target_labels": "all"},
        ["images, masks recur", "target_classes=[rust,scratch]"],
    ),
    "parts of no usual name": (
        tree(*(f"{p}/{c}" for p in ("part1", "part2") for c in CLASSES)),
        {"target_labels": "all"},
        ["name the parts train, val and test"],
    ),
    "parts and something else": (
        in_each("train") | in_each("test") | tree("extra"),
        {"target_labels": "all"},
        ["look like parts", "extra beside them"],
    ),
    "one part twice": (
        in_each("val") | in_each("valid") | in_each("train"),
        {"target_labels": "all"},
        ["val and valid are one part"],
    ),
    "none to train on": (
        in_each("test") | in_each("val"),
        {"target_labels": "all"},
        ["none to train on"],
    ),
    "a class in test alone": (
        in_each("train") | in_each("test") | tree("test/frog"),
        {"target_labels": "all"},
        ["test/frog", "no picture of that class in train", "Add train/frog, or remove test/frog"],
    ),
    "a class in Test alone": (
        in_each("Train") | in_each("Test") | tree("Test/frog"),
        {"target_labels": "all"},
        ["Test/frog", "Add Train/frog"],
    ),
    "an empty class": (in_each("") | {"frog": 0}, {"target_labels": "all"}, ["no picture", "frog"]),
    "another spelling": (
        tree("Cat", "Ship", "Truck"),
        {},
        ["the source's classes by another spelling", "Rename Cat to cat"],
    ),
    "another spelling of some": (
        tree("Cat", "ship", "truck"),
        {},
        ["Cat are the source's classes by another spelling", "Rename Cat to cat"],
    ),
    "another spelling of some, and one of none": (
        tree("Cat", "ship", "lorry"),
        {"target_labels": "all"},
        ["Rename Cat to cat. lorry is none of the source's"],
    ),
    "a class to test on that the source has not": (
        tree("train", n=6) | tree("test/cat", "test/frog"),
        {},
        ["test/frog is no class of the source", "cat, ship, truck"],
    ),
    "labels asked of a heap": (
        tree(".", n=6),
        {"target_labels": 5},
        ["data.target_labels=5", "have no labels"],
    ),
    "labels asked of a heap to train on": (
        tree("train", n=6) | in_each("test"),
        {"target_labels": "all"},
        ["data.target_labels=all", "have no labels"],
    ),
    "a heap without a source": (
        tree(".", n=6),
        {"source_dir": None},
        ["no folder of a class", "data.source_dir"],
    ),
    "one class": (tree("cat"), {"source_dir": None}, ["one class, cat", "two folders or more"]),
    "nothing": ({".": 0}, {}, ["holds no picture"]),
    "no folder": (None, {}, ["there is no such folder"]),
}


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_refused(tmp_path, row):
    folders, more, parts = REFUSED[row]
    source = fill(tmp_path / "source", in_each("", 5))
    target = tmp_path / "target"
    if folders is not None:
        fill(target, folders)
    with pytest.raises(DataError) as said:
        task_of(target, tmp_path, **{"source_dir": str(source), **more})
    for part in (str(target), *parts) if "labels" not in row else parts:
        assert part in str(said.value)


def test_a_source_needs_labels(tmp_path):
    heap, target = fill(tmp_path / "heap", tree(".", n=5)), fill(tmp_path / "t", in_each(""))
    with pytest.raises(DataError, match=r"data.source_dir=.*pictures without any are a target"):
        task_of(target, tmp_path, source_dir=str(heap))


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".webp", ".tga", ".jp2", ".ppm"])
def test_suffixes_that_pillow_reads_count(tmp_path, suffix):
    fill(tmp_path / "pets", in_each("", 2))
    kind = {".jfif": "jpeg", ".jpe": "jpeg", ".JPG": "jpeg", ".jp2": "jpeg2000"}.get(suffix)
    for c in CLASSES:
        Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "pets" / c / f"x{suffix}", format=kind)
    assert len(task_of(tmp_path / "pets", tmp_path).splits["target_train"]) == 9


def test_other_files_are_counted(tmp_path):
    fill(tmp_path / "pets", in_each("", 2) | tree(".", n=3))
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "pets" / "labels.csv").write_text("x")
    assert "5 other files ignored" in task_of(tmp_path / "pets", tmp_path).protocol


# ---- pixels

GREY = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
WIDE = {  # how a picture is stored, the suffix, what its folder's pixels go from and to
    "10 bits": (lambda g: g.astype(np.uint16) * 4, ".png", (0, 1023)),
    "12 bits": (lambda g: g.astype(np.uint16) * 16, ".png", (0, 4095)),
    "14 bits": (lambda g: g.astype(np.uint16) * 64, ".png", (0, 16383)),
    "16 bits": (lambda g: g.astype(np.uint16) * 257, ".png", (0, 65535)),
    "8 bits in 16": (lambda g: g.astype(np.uint16), ".png", (0, 255)),
    "16 bits in 32": (lambda g: g.astype(np.int32) * 257, ".tif", (0, 65535)),
    "floats to 1": (lambda g: (g / 255).astype(np.float32), ".tif", (0, 1)),
    "floats to 255": (lambda g: g.astype(np.float32), ".tif", (0, 255)),
}


def wide(root: Path, change, suffix: str, peaks=(1.0, 0.5)) -> Path:
    """Two classes of a picture each, at these shares of the brightness."""
    for name, peak in zip(("a", "b"), peaks, strict=True):
        (root / name).mkdir(parents=True)
        stored = change((GREY * peak).astype(GREY.dtype if peak <= 1 else float))
        Image.fromarray(stored).save(root / name / f"0{suffix}")
    return root


@pytest.mark.parametrize("kind", WIDE)
def test_one_scale_for_a_whole_folder(tmp_path, kind):
    change, suffix, scale = WIDE[kind]
    root = wide(tmp_path / "wide", change, suffix)
    task = task_of(root, tmp_path, size=8, channels=1)
    assert task.pixels == scale
    x = task.splits["target_test"].x[:, 0].numpy().astype(int)
    assert np.abs(x[0] - GREY).max() <= 1
    assert np.abs(x[1] - (GREY * 0.5).astype(int)).max() <= 1  # the darker one stays darker


def test_floats_beyond_the_usual_are_refused_or_said_by_hand(tmp_path):
    root = wide(tmp_path / "wide", lambda g: (g / 255).astype(np.float32), ".tif", (1.0, 1.3))
    with pytest.raises(DataError, match=r"from 0 to 1\.3: floats .* data\.range=\[low,high\]"):
        task_of(root, tmp_path, size=8, channels=1)
    task = task_of(root, tmp_path, size=8, channels=1, range=[0, 1.3])
    x = task.splits["target_test"].x[:, 0].numpy().astype(int)
    assert np.abs(x[0] - GREY / 1.3).max() <= 1
    assert np.abs(x[1] - GREY).max() <= 1


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda g: (g / 255 - 0.5).astype(np.float32), "below 0"),
        (lambda g: (g / 4).astype(np.float32), "floats are usually"),
        (lambda g: g.astype(np.int32) * 1000, "beyond 16 bits"),
    ],
)
def test_pixels_in_no_usual_range_are_refused(tmp_path, change, part):
    with pytest.raises(DataError, match=part):
        task_of(wide(tmp_path / "wide", change, ".tif"), tmp_path, size=8, channels=1)


def test_a_range_is_for_pictures_that_have_one(tmp_path):
    with pytest.raises(DataError, match="more than 8 bits, and there are none"):
        task_of(fill(tmp_path / "pets", in_each("")), tmp_path, range=[0, 255])


def test_a_dark_domain_is_data_and_said(tmp_path):
    source = fill(tmp_path / "source", in_each("", 3))
    target = fill(tmp_path / "target", in_each("", 3), brightness=0.45)
    task = task_of(target, tmp_path, source_dir=str(source))
    peak = int(task.splits["target_train"].x.max())
    assert peak < 128
    assert f"the brightest pixel of the target is {peak} of 255" in task.notes[0]
    assert "the source's mean is" in task.notes[0]


def test_more_pixels_than_are_decoded_have_our_own_message(tmp_path, monkeypatch, recwarn):
    fill(tmp_path / "pets", in_each("", 2))
    Image.new("L", (60, 50)).save(tmp_path / "pets" / "cat" / "big.png")
    for most in (2000, 1000):  # Pillow would warn, and would raise
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(DataError, match=rf"more than {most:,} pixels are not decoded: shrink"):
            task_of(tmp_path / "pets", tmp_path / str(most))
    assert not recwarn.list


# ---- commands


WORDS = ("debug=smoke", "device=cpu", "figures=false", "data.size=8", "backbone=small_cnn")


def test_a_heap_is_adapted_to_predicted_and_given_no_accuracy(tl_run, tmp_path):
    """The run's folder and what it prints: predictions and shares, no accuracy on the target."""
    source, heap = (
        fill(tmp_path / "source", in_each("", 8)),
        fill(tmp_path / "heap", tree(".", n=9)),
    )
    data = (f"data.source_dir={source}", f"data.target_dir={heap}", "data=folder")
    ended = tl_run(*WORDS, *data, "method=dann", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    assert "no labels, so no accuracy: 9 predicted" in ended.text
    assert "target test" not in ended.text
    assert "of the accuracy, by confidence:" in ended.text
    assert "by ATC" in ended.text
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()
    assert rows[0] == "file,class,probability"
    assert sorted(row.split(",")[0] for row in rows[1:]) == [f"{i}.png" for i in range(9)]
    assert {row.split(",")[1] for row in rows[1:]} <= {*CLASSES}
    (result,) = results(tmp_path)
    assert result["metric"] == "im"
    assert "accuracy" not in result["metrics"]["target_train"]
    assert "target_test" not in result["metrics"]
    assert {"atc", "doc"} <= result["intervals"]["target_train"].keys()
    shares = result["target_predictions"]["shares"]
    assert sum(share["predicted"] for share in shares.values()) == pytest.approx(1)
    assert shares["cat"]["source"] == pytest.approx(1 / 3)
    table = tl_run("-m", *WORDS, *data, "method=source_only,dann", f"hydra.sweep.dir={tmp_path}/s")
    assert table.code == 0, table.text
    assert "accuracy" not in table.out.replace("it is no accuracy.", "")
    assert "im: a label-free score of the target's predictions" in table.out
    assert "withheld: none was measured to hold for this method" in table.text
    frozen = ("backbone.batch_norm=true", "backbone.bn=frozen")
    short = (*WORDS, *data, *frozen, "method=source_only", "train.limit.samples=4")
    ended = tl_run(*short, f"hydra.run.dir={tmp_path / 'short'}")
    assert ended.code == 0, ended.text
    assert "backbone.bn=frozen changes nothing here" in ended.text
    assert "train.limit.samples=4 leaves images out of predictions.csv" in ended.text
    assert len((tmp_path / "short" / "predictions.csv").read_text().splitlines()) == 1 + 4
    refused = tl_run(*WORDS, *data, "method=dann", "selection=oracle")
    assert refused.code == 2
    assert "selection=oracle needs target_test" in refused.err
    assert "selection=last, or a label-free score" in refused.err


def test_a_folder_alone_is_learned_from_its_labels(tl_run, tmp_path):
    target = fill(tmp_path / "pics", in_each("", 8))
    ended = tl_run(*WORDS, "data=folder", f"data.target_dir={target}")
    assert ended.code == 0, ended.text
    assert "no source and no method: method=target_only data.target_labels=all" in ended.err
    assert "starts from random weights" in ended.err
    (result,) = results(tmp_path)
    ended = tl_run(
        *WORDS,
        "data=folder",
        f"data.target_dir={target}",
        f"backbone.weights={next((tmp_path / 'outputs').rglob('result.json')).parent}",
    )
    assert ended.code == 0, ended.text
    assert "no source and no method: method=finetune method.pretrain.epochs=0" in ended.err
    assert "starts from random weights" not in ended.err
    assert result["choices"]["method"] == "target_only"
