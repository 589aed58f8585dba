"""Your own pictures: files of every kind, made up here; what is decoded, kept and said."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from support import folders
from support.pictures import made_up
from support.runs import TINY, results
from tl_runner.data import pictures
from tl_runner.data.picture_file import picture
from tl_runner.data.pictures import decode
from tl_runner.data.tasks.folder import load
from tl_runner.errors import DataError
from tl_runner.record.result import by_name

SETTINGS = {**folders.SETTINGS, "size": 16, "target_labels": 0}


def task_of(root, tmp_path, **more):
    return load(**{**SETTINGS, "target_dir": str(root), "cache": str(tmp_path / "cache"), **more})


def test_a_folder_of_classes_is_divided_by_the_seed(tmp_path):
    root = made_up(tmp_path / "pets", n=20)
    task = task_of(root, tmp_path, target_labels="all")
    assert task.classes == ("cat", "dög")
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sizes == {"target_train": 28, "target_labelled": 28, "target_val": 4, "target_test": 8}
    assert task.splits["target_train"].y is None
    assert task.splits["target_test"].y.bincount().tolist() == [4, 4]
    ids = torch.cat(
        [task.splits[name].ids for name in ("target_train", "target_val", "target_test")]
    )
    assert ids.sort().values.tolist() == list(range(40))
    again, other = (
        task_of(root, tmp_path, target_labels="all"),
        task_of(root, tmp_path, target_labels="all", seed=1),
    )
    for name in ("target_train", "target_test"):
        assert torch.equal(task.splits[name].ids, again.splits[name].ids)
    assert torch.equal(task.splits["target_test"].ids, other.splits["target_test"].ids)
    assert not torch.equal(task.splits["target_val"].ids, other.splits["target_val"].ids)


def test_one_folder_can_be_both_domains_by_its_classes(tmp_path):
    root = str(made_up(tmp_path / "pets", classes=("cat", "dog", "emu", "fox"), n=10))
    task = task_of(
        root,
        tmp_path,
        source_dir=root,
        source_classes=["cat", "dog"],
        target_classes=["emu", "fox"],
        source_test_fraction=0.5,
    )
    assert (task.source_classes, task.classes) == (("cat", "dog"), ("emu", "fox"))
    assert [len(task.splits[name]) for name in ("source_test", "target_test")] == [10, 20]
    with pytest.raises(
        DataError,
        match=r"data.target_classes: .* has no class enu. It has cat, dog, emu, fox. Did you mean "
        r"'emu'",
    ):
        task_of(root, tmp_path, target_classes=["cat", "enu"])


def test_one_folder_in_both_domains_shares_no_class(tmp_path):
    root = str(made_up(tmp_path / "pets", classes=("cat", "dog", "emu"), n=4))
    for more in ({}, {"source_classes": ["cat", "dog"], "target_classes": ["dog", "emu"]}):
        with pytest.raises(
            DataError, match=r"are one folder, and .*dog.* would be in both domains"
        ):
            task_of(root, tmp_path, source_dir=root, **more)


def test_one_class_is_none_to_tell_apart(tmp_path):
    with pytest.raises(
        DataError, match="holds one class, cat: a classifier needs two folders or more"
    ):
        task_of(made_up(tmp_path / "pets", classes=("cat",)), tmp_path)


@pytest.mark.parametrize("more_in", ["source", "target"])
def test_figures_of_domains_with_other_classes(tl_run, tmp_path, more_in):
    many, few = ("ant", "bee", "cat", "dog"), ("bee", "emu")
    for name, classes in (
        ("source", many if more_in == "source" else few),
        ("target", few if more_in == "source" else many),
    ):
        made_up(tmp_path / name, classes=classes, n=40)
    words = [
        f"data.source_dir={tmp_path / 'source'}",
        f"data.target_dir={tmp_path / 'target'}",
        "data.size=16",
        "backbone=small_cnn",
    ]
    ended = tl_run(
        "debug=smoke",
        "device=cpu",
        "data=folder",
        "method=finetune",
        "figures=all",
        *words,
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert not result["warnings"]
    assert (tmp_path / "run" / "figures" / "embedding.png").exists()


def test_a_figure_that_cannot_be_drawn_costs_no_run(tl_run, tmp_path, monkeypatch):
    monkeypatch.setattr("tl_runner.jobs.run.write_figures", lambda *_: 1 / 0)
    words = [
        "data.target_labels=all",
        f"data.target_dir={made_up(tmp_path / 'pets', n=8)}",
        "data.size=16",
        "backbone=small_cnn",
    ]
    ended = tl_run(
        "debug=smoke",
        "device=cpu",
        "data=folder",
        "method=target_only",
        *words,
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["status"] == "done"
    assert "the figures could not be drawn (ZeroDivisionError" in result["warnings"][-1]


def test_a_file_that_breaks_the_reader_is_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    root = made_up(tmp_path / "pets", n=4)

    def broken(*_):
        # what PIL raises for some EXIF tags
        raise struct.error("required argument is not an integer")

    monkeypatch.setattr(pictures, "picture", broken)
    with pytest.raises(DataError, match="required argument is not an integer"):
        task_of(root, tmp_path)


def test_a_folders_own_parts_are_kept(tmp_path):
    for part, n in (("train", 5), ("test", 3)):
        made_up(tmp_path / "pets" / part, n=n)
    task = task_of(tmp_path / "pets", tmp_path, target_labels=2, val_fraction=0.2)
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sizes == {"target_train": 8, "target_labelled": 4, "target_val": 2, "target_test": 6}


def test_two_domains_are_matched_by_the_names_of_their_classes(tmp_path):
    here, there = made_up(tmp_path / "here", ("a", "b")), made_up(tmp_path / "there", ("b", "a"))
    task = task_of(here, tmp_path, source_dir=str(there))
    assert {"source_train", "source_val", "source_test", "target_train", "target_test"} == set(
        task.splits
    )
    # "a" is the bright one there
    assert task.splits["source_train"].x[task.splits["source_train"].y == 0].float().mean() > 100
    made_up(tmp_path / "more", ("a", "b", "c"))
    task = task_of(here, tmp_path, source_dir=str(tmp_path / "more"))
    assert (task.classes, task.source_classes) == (("a", "b"), ("a", "b", "c"))


MODES = {
    "palette": lambda i: i.convert("P", palette=Image.Palette.ADAPTIVE),
    "grey": lambda i: i.convert("L"),
    "one bit": lambda i: i.convert("L").point(lambda v: 255 * (v > 127)).convert("1"),
    "rgba": lambda i: i.convert("RGBA"),
    "cmyk": lambda i: i.convert("CMYK"),
    "16 bit": lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257),
    "float": lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.float32) / 255),
    "32 bit": lambda i: Image.fromarray(np.asarray(i.convert("L")).astype(np.int32) * 257),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_comes_to_the_same_picture(tmp_path, mode, channels):
    grey = np.linspace(0, 255, 32 * 32).round().astype(np.uint8).reshape(32, 32)
    if mode == "one bit":
        grey = 255 * (grey > 127).astype(np.uint8)
    image = MODES[mode](Image.fromarray(np.repeat(grey[..., None], 3, 2)))
    file = tmp_path / ("p.tif" if mode in ("cmyk", "float", "32 bit") else "p.png")
    image.save(file)
    options = {"size": 32, "channels": channels, "fit": "crop", "workers": 0, "cache": None}
    found = decode(tmp_path, [file], **options).x[0].numpy()
    assert found.shape == (channels, 32, 32)
    assert found.dtype == np.uint8
    tolerance = 4 if mode == "palette" else 2
    assert np.abs(found.astype(int) - grey).max() <= tolerance


def test_transparent_is_white_and_a_turned_photograph_is_turned_back(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (picture(tmp_path / "clear.png", 3, 4, "crop") == 255).all()
    image = Image.new("RGB", (8, 8))
    image.paste((255, 255, 255), (0, 0, 8, 4))  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    found = picture(tmp_path / "turned.jpg", 1, 8, "crop")[0]
    assert found[:, 5:].mean() > 250
    assert found[:, :3].mean() < 5


def test_one_pixel_and_a_long_strip_are_pictures(tmp_path):
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "one.png")
    assert picture(tmp_path / "one.png", 3, 8, "crop").reshape(3, -1).max(1).tolist() == [
        10,
        20,
        30,
    ]
    Image.new("RGB", (3000, 2), (10, 20, 30)).save(tmp_path / "strip.png")
    for fit in ("crop", "stretch"):
        assert picture(tmp_path / "strip.png", 3, 8, fit).shape == (3, 8, 8)


def test_what_cannot_be_read_is_named_or_left_out(tmp_path):
    root = made_up(tmp_path / "pets")
    (root / "cat" / "zero.png").write_bytes(b"")
    whole = (root / "cat" / "1.png").read_bytes()
    (root / "cat" / "cut short.png").write_bytes(whole[: len(whole) // 2])
    (root / "dög" / "text.jpg").write_text("no picture")
    (root / "dög" / "notes.txt").write_text("junk")
    (root / "dög" / ".hidden").mkdir()
    (root / "dög" / ".hidden" / "x.png").write_bytes(b"")
    with pytest.raises(DataError) as said:
        task_of(root, tmp_path)
    for part in (
        "3 of 23 pictures",
        "zero.png: empty file",
        "cut short.png",
        "text.jpg",
        "data.unreadable=skip",
    ):
        assert part in str(said.value)
    task = task_of(root, tmp_path, unreadable="skip", target_labels="all")
    assert sum(len(task.splits[name]) for name in ("target_train", "target_test")) == 20 - 2
    assert "3 unreadable ones skipped, 1 other files ignored" in task.protocol


def test_an_empty_class_and_missing_folders_are_told(tmp_path):
    root = made_up(tmp_path / "pets")
    (root / "empty").mkdir()
    with pytest.raises(DataError, match=r"no picture .* in empty"):
        task_of(root, tmp_path)
    with pytest.raises(DataError, match="there is no such folder"):
        task_of(tmp_path / "nowhere", tmp_path)
    (tmp_path / "flat").mkdir()
    with pytest.raises(DataError, match="holds no folder of a class"):
        task_of(tmp_path / "flat", tmp_path)


def test_nothing_is_decoded_twice(tmp_path, monkeypatch):
    root, seen = made_up(tmp_path / "pets"), []
    real = pictures.picture
    monkeypatch.setattr(
        pictures, "picture", lambda file, *rest: seen.append(file) or real(file, *rest)
    )
    one = task_of(root, tmp_path)
    assert len(seen) == len(set(seen)) == 20
    two = task_of(root, tmp_path, seed=0)
    assert len(seen) == 20
    assert torch.equal(one.splits["target_train"].x, two.splits["target_train"].x)
    assert one.checksums == two.checksums
    two.splits["target_train"].x.zero_()  # what a run does to its images reaches no other
    assert task_of(root, tmp_path).splits["target_train"].x.any()
    Image.new("RGB", (5, 5)).save(root / "cat" / "0.png")
    three = task_of(root, tmp_path)
    assert len(seen) == 40  # a changed file is another folder
    assert three.checksums != one.checksums


def test_workers_decode_the_same(tmp_path, monkeypatch):
    root = made_up(tmp_path / "pets", n=70)
    files = sorted(root.rglob("*.png"))
    options = {"size": 16, "channels": 3, "fit": "crop", "cache": None}
    alone = decode(root, files, workers=0, **options)
    monkeypatch.setattr(pictures, "FEW", 10)
    together = decode(root, files, workers=2, **options)
    assert torch.equal(alone.x, together.x)
    assert alone.digest == together.digest


@pytest.mark.parametrize("damage", [b"", b"nonsense"])
def test_a_damaged_cache_says_what_to_delete(tmp_path, damage):
    root = made_up(tmp_path / "pets")
    task_of(root, tmp_path)
    (array,) = (tmp_path / "cache" / "pictures").glob("*.npy")
    array.write_bytes(damage)
    with pytest.raises(DataError, match=f"Delete it and {array.stem}.json"):
        task_of(root, tmp_path)


def test_a_run_on_two_folders(tl_run, tmp_path):
    made_up(tmp_path / "photos", n=40)
    made_up(tmp_path / "drawings", n=40)
    words = (
        *[w for w in TINY if not w.startswith("data.")],
        "data=folder",
        f"data.target_dir={tmp_path / 'photos'}",
        f"data.source_dir={tmp_path / 'drawings'}",
        "data.size=32",
        "backbone=small_cnn",
        "method=dan",
        "data.target_labels=2",
    )
    ended = tl_run(*words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["classes"] == ["cat", "dög"]
    assert "drawings" in result["protocol"]
    checksums = json.loads((tmp_path / "run" / "environment.json").read_text())["data_sha256"]
    assert len(checksums) == 2


def test_adaptation_needs_the_same_classes(tl_run, tmp_path):
    here, there = made_up(tmp_path / "here", ("a", "b")), made_up(tmp_path / "there", ("b", "c"))
    ended = tl_run(
        "data=folder",
        f"data.target_dir={here}",
        f"data.source_dir={there}",
        "data.size=16",
        "method=dan",
        "backbone=small_cnn",
    )
    assert ended.code == 2
    assert "c only in the source; a only in the target" in ended.err


def test_a_method_that_wants_a_source_says_where_to_name_it(tl_run, tmp_path):
    ended = tl_run("data=folder", f"data.target_dir={made_up(tmp_path / 'pets')}", "method=dan")
    assert ended.code == 2
    assert "data.source_dir" in ended.err


@pytest.mark.slow
def test_the_jobs_of_a_sweep_decode_a_folder_together_once(tl_run, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    root = made_up(tmp_path / "pets", n=pictures.FEW // 2 + 5, size=(8, 8))
    words = [
        "data=folder",
        f"data.target_dir={root}",
        "data.target_labels=all",
        "data.size=16",
        "data.workers=2",
        f"cache.dir={tmp_path / 'c'}",
    ]
    jobs = [
        "-m",
        "hydra/launcher=processes",
        "hydra.launcher.n_jobs=2",
        "seed=0,1",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]
    ended = tl_run(
        "debug=smoke", "device=cpu", "method=target_only", "figures=false", *words, *jobs
    )
    assert ended.code == 0, ended.text
    assert [r["status"] for r in results(tmp_path)] == ["done", "done"]
    assert sorted(f.suffix for f in (tmp_path / "c" / "pictures").iterdir()) == [
        ".json",
        ".lock",
        ".npy",
    ]


def test_labels_of_both_domains_count_in_one_list_of_names():
    task = SimpleNamespace(classes=("bee", "emu"), source_classes=("ant", "bee"))
    arrays, names = by_name(
        {"source/labels": np.array([0, 1]), "target/labels": np.array([0, 1])}, task
    )
    assert [names[i] for i in arrays["source/labels"]] == ["ant", "bee"]
    assert [names[i] for i in arrays["target/labels"]] == ["bee", "emu"]
