"""Picture files one by one: what is kept of them, which formats are read, how pixels are scaled."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from tl_runner.data import pictures
from tl_runner.data.picture_file import SUFFIXES, formats, picture
from tl_runner.data.pictures import decode

OPTIONS = {"size": 8, "channels": 1, "fit": "crop", "workers": 0}


def grey(file, value, kind=np.uint8):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, kind)).save(file)
    return file


def restored(file):
    """A file with the time of change that an archive gives it."""
    os.utime(file, (0, 0))
    return file


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """What is decoded of a folder with a cache, and how many files were opened for it."""
    opened, real = [], pictures.picture
    monkeypatch.setattr(pictures, "picture", lambda *args: opened.append(args) or real(*args))

    def decoded(root):
        opened.clear()
        found = decode(root, sorted(root.rglob("*.bmp")), cache=tmp_path / "cache", **OPTIONS)
        return found.x[:, 0, 0, 0].tolist(), len(opened)

    return decoded


def test_another_folder_of_the_same_names_sizes_and_times_is_another(tmp_path, kept):
    for name, value in (("one", 50), ("other", 200)):
        restored(grey(tmp_path / name / "cat" / "0.bmp", value))
    assert kept(tmp_path / "one") == ([50], 1)
    assert kept(tmp_path / "other") == ([200], 1)
    assert kept(tmp_path / "one") == ([50], 0)
    (tmp_path / "link").symlink_to("one")
    assert kept(tmp_path / "link") == ([50], 0)


@pytest.mark.parametrize("how", ["written anew", "put in its place", "the folder's place"])
def test_a_file_of_the_same_name_size_and_time_is_another(tmp_path, kept, how):
    file = restored(grey(tmp_path / "pets" / "0.bmp", 50))
    assert kept(tmp_path / "pets") == ([50], 1)
    other = restored(grey(tmp_path / "new" / "0.bmp", 200))
    if how == "written anew":
        file.write_bytes(other.read_bytes())
        restored(file)
    elif how == "put in its place":
        other.replace(file)
    else:
        (tmp_path / "pets").rename(tmp_path / "old")
        (tmp_path / "new").rename(tmp_path / "pets")
    assert file.stat().st_mtime_ns == 0
    assert kept(tmp_path / "pets") == ([200], 1)


def test_a_file_that_is_gone_by_then_is_one_that_cannot_be_read(tmp_path):
    there, gone = grey(tmp_path / "0.bmp", 50), tmp_path / "1.bmp"
    found = decode(tmp_path, [there, gone], cache=tmp_path / "cache", **OPTIONS)
    assert "No such file" in found.unreadable[1]
    assert found.contents[1] == ""
    grey(gone, 70)
    found = decode(tmp_path, [there, gone], cache=tmp_path / "cache", **OPTIONS)
    assert not found.unreadable


def test_only_formats_of_pictures_are_read(tmp_path, monkeypatch):
    assert {"JPEG", "PNG", "TIFF", "WEBP", "GIF", "TGA"} <= {*formats()}
    assert not {"EPS", "WMF", "PDF", "FPX", "MIC", "IPTC", "GRIB", "HDF5", "BUFR"} & {*formats()}
    known = Image.registered_extensions()
    assert {known[s] for s in SUFFIXES} - {*formats()} <= {"MPO"}  # which JPEG's reader opens
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it started"))
    for name in ("a.jpg", "a.png", "a.eps"):
        (tmp_path / name).write_bytes(
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
        )
        with pytest.raises(OSError, match="cannot identify image file"):
            picture(tmp_path / name, 1, 8, "crop")


def test_the_scale_of_a_type_depends_on_no_other_file(tmp_path):
    files = [
        grey(tmp_path / "0.png", 257 * 40, np.uint16),
        grey(tmp_path / "1.tif", 257 * 80, np.int32),
        grey(tmp_path / "2.tif", 0.2, np.float32),
        grey(tmp_path / "3.png", 60),
        grey(tmp_path / "4.tif", 60.0, np.float32),
        grey(tmp_path / "5.tif", 70000, np.int32),
        grey(tmp_path / "6.png", 200, np.uint16),
    ]
    options = {**OPTIONS, "cache": None, "scale": "type"}
    found = decode(tmp_path, files, **options)
    assert found.x[:, 0, 0, 0].tolist() == [40, 80, 51, 60, 0, 0, 1]
    assert found.unreadable == {
        4: "its pixels go from 60 to 60, and floats are taken from 0 to 1",
        5: "its pixels go from 70000 to 70000, and whole numbers are taken from 0 to 65535",
    }
    assert (found.wide, found.scale) == (4, None)
    alone = [decode(tmp_path, [file], **options).x for file in files]
    assert torch.equal(torch.cat(alone), found.x)
