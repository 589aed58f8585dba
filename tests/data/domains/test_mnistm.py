"""MNIST-M, made of MNIST and photographs. Both are made up here."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from support.digit_tasks import load, sizes
from support.made_digits import make_root, shrink, write_photo
from tl_runner.data.domains.mnistm import FIFTH, Photo, blend, divide
from tl_runner.errors import DataError

TRAIN, TEST = (200, 10, 90), (0, 255, 128)  # colours


@pytest.fixture
def root(tmp_path, monkeypatch):
    shrink(monkeypatch)
    return make_root(tmp_path / "data")


@pytest.fixture
def photos(tmp_path):
    """Of one colour each, so that every pixel of MNIST-M is known."""
    folder = tmp_path / "photos"
    for name, colour in {"train/a.png": TRAIN, "val/b.PNG": TRAIN, "test/c.png": TEST}.items():
        write_photo(folder / name, colour)
    return folder


def mnistm(root, photos, **changes):
    return load(
        root,
        **{
            "target": "mnistm",
            "channels": 3,
            "photos": str(photos),
            "val_fraction": 0.0,
            **changes,
        },
    )


def test_every_pixel_is_the_difference_of_digit_and_photograph(root, photos):
    task = mnistm(root, photos)
    assert sizes(task) == {
        "source_train": 60,
        "source_test": 20,
        "target_train": 60,
        "target_test": 20,
    }
    for part, colour in (("train", TRAIN), ("test", TEST)):
        digits, blended = (task.splits[f"{domain}_{part}"] for domain in ("source", "target"))
        expected = (digits.x.int() - torch.tensor(colour).view(1, 3, 1, 1)).abs()
        assert torch.equal(blended.x.int(), expected)
        assert torch.equal(blended.ids, digits.ids)
    assert torch.equal(task.splits["target_test"].y, task.splits["source_test"].y)
    assert task.protocol == "full: 60 MNIST and 60 MNIST-M training images, 28x28 in colour"


def test_patches_lie_anywhere_in_any_photograph(tmp_path):
    """Red tells the row, green the column and blue the photograph that a pixel came from."""
    shapes = ((28, 28), (40, 31), (30, 90))
    photos = []
    for number, (high, wide) in enumerate(shapes):
        rows, columns = np.mgrid[:high, :wide]
        write_photo(
            tmp_path / f"{number}.png",
            np.stack([rows, columns, np.full_like(rows, number)], 2).astype(np.uint8),
        )
        photos.append(Photo(tmp_path / f"{number}.png", high, wide))
    made = blend(
        torch.zeros(6000, 1, 28, 28, dtype=torch.uint8), photos, torch.Generator().manual_seed(0)
    ).int()
    which = made[:, 2, 0, 0]
    corner = made[:, :2, 0, 0]
    assert (made[:, 2] == which[:, None, None]).all()
    assert (made[:, 0] == corner[:, 0, None, None] + torch.arange(28)[:, None]).all()
    assert (made[:, 1] == corner[:, 1, None, None] + torch.arange(28)).all()
    assert which.bincount().min() > 1800
    for number, (high, wide) in enumerate(shapes):
        rows, columns = corner[which == number].unbind(1)
        assert rows.unique().tolist() == list(range(high - 27))
        assert columns.unique().tolist() == list(range(wide - 27))


def test_every_run_has_the_same_and_other_photographs_make_another(root, photos):
    first, again = (mnistm(root, photos, seed=seed).splits["target_test"] for seed in (0, 1))
    assert torch.equal(first.x, again.x)
    before = mnistm(root, photos).checksums
    assert set(before) == {*load(root, target="usps").checksums} - {
        "USPS/usps.bz2",
        "USPS/usps.t.bz2",
    } | {"photos"}
    write_photo(photos / "test/c.png", (1, 2, 3))
    after = mnistm(root, photos)
    assert after.checksums["photos"] != before["photos"]
    assert not torch.equal(first.x, after.splits["target_test"].x)
    copied = shutil.copytree(photos, photos.parent / "elsewhere")
    assert mnistm(root, copied).checksums == after.checksums


def test_photographs_in_no_such_folders_are_divided_by_name(tmp_path):
    photos = [Photo(tmp_path / "train" / f"{i:02}.png", 30, 30) for i in range(12)]
    # without a folder test, train alone divides nothing
    for folder in (tmp_path, tmp_path / "train"):
        train, test = divide(folder, photos)
        assert test == photos[::FIFTH]
        assert sorted(train + test) == photos


def test_what_will_not_do_is_passed_over(root, photos):
    before = mnistm(root, photos)
    write_photo(photos / "train/small.png", np.zeros((27, 80, 3), np.uint8))
    (photos / "train/no.jpg").write_bytes(b"<html>404</html>")
    (photos / "train/Thumbs.db").write_bytes(b"x")
    after = mnistm(root, photos)
    assert after.checksums == before.checksums
    assert torch.equal(after.splits["target_train"].x, before.splits["target_train"].x)


def grey_and_transparent(folder):
    from PIL import Image

    Image.fromarray(np.full((30, 30), 50, np.uint8)).save(folder / "a.png")
    Image.fromarray(np.full((30, 30, 4), 50, np.uint8)).save(folder / "b.png")


def test_photographs_of_any_mode(root, tmp_path):
    (tmp_path / "photos").mkdir()
    grey_and_transparent(tmp_path / "photos")
    task = mnistm(root, tmp_path / "photos")
    assert torch.equal(
        task.splits["target_test"].x.int(), (task.splits["source_test"].x.int() - 50).abs()
    )


def nothing(folder):
    pass


def no_photograph(folder):
    (folder / "list.txt").write_text("a.jpg")


def too_small(folder):
    write_photo(folder / "a.png", np.zeros((20, 20, 3), np.uint8))
    (folder / "b.png").write_text("no image")


def one(folder):
    write_photo(folder / "a.png", (1, 2, 3))


def truncated(folder):
    for name in ("a.png", "b.png"):
        write_photo(
            folder / name, np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
        )
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:4000])


WRONG = {
    nothing: "no photograph",
    no_photograph: "no photograph",
    too_small: r"1 are smaller than 28x28 pixels, 1 cannot be "
    r"read",
    one: "two are needed",
    truncated: "b.png cannot be read",
}


@pytest.mark.parametrize("make", WRONG, ids=lambda m: m.__name__)
def test_photographs_that_will_not_do(root, tmp_path, make):
    (tmp_path / "photos").mkdir()
    make(tmp_path / "photos")
    with pytest.raises(DataError, match=WRONG[make]):
        mnistm(root, tmp_path / "photos")


def test_no_photographs_say_what_to_do(tl_run, root):
    ended = tl_run("data=mnist2mnistm", f"data.root={root}")
    assert ended.code == 2
    for text in (
        f"data.photos={root}/BSR/BSDS500/data/images is no folder",
        "BSDS500",
        "point data.photos",
        "data=fonts2digits",
    ):
        assert text in ended.err
