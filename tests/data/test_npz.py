"""Damaged ``.npz`` files: each is refused, and nothing is allocated for what it promises."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

from tl_runner.data.vectors import read, read_vectors
from tl_runner.errors import DataError

ROWS = b"{'descr': '<f8', 'fortran_order': False, 'shape': %s}"
X = np.arange(8.0).reshape(4, 2)
BODY = X.tobytes()


def member(header, body=BODY, version=1):
    """Bytes of a ``.npy`` file."""
    return b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(2, "little") + header + body


def flagged(content):
    """An archive whose members say that they are encrypted."""
    for signature, place in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        at = content.find(signature)
        content = content[: at + place] + b"\1" + content[at + place + 1 :]
    return content


# (x.npy, what is done to the archive, what is said of it)
DAMAGED = {
    "more rows than there are": (member(ROWS % b"(1250000000, 5)"), "holds 64"),
    "a size that no machine has": (member(ROWS % (b"(%d, 5)" % 10**30)), "holds 64"),
    "fewer rows than there are": (member(ROWS % b"(3, 2)"), "48 bytes, and holds 64"),
    "rows below zero": (member(ROWS % b"(-4, 2)"), "of shape"),
    "dimensions below zero": (member(ROWS % b"(-4, -2)"), "of shape"),
    "a header with leading zeros": (member(ROWS.replace(b"<f8", b"08f8") % b"(4, 2)"), "header"),
    "a header cut off": (member(b"(" * 300), "x.npy has no header of an array"),
    "a header of another version": (member(ROWS % b"(4, 2)", version=9), "version 9.0"),
    "no header": (b"", "EOF"),
}


def refused(path, said):
    """Whether both ways to read a file say this of it."""
    with pytest.raises(DataError, match=rf"data\.target_file=.*cannot be read as \.npz \(.*{said}"):
        read(path, "data.target_file")
    with pytest.raises(ValueError, match=said):
        read_vectors(path)


@pytest.mark.parametrize("row", DAMAGED)
def test_a_damaged_array_is_refused(tmp_path, row):
    content, said = DAMAGED[row]
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    refused(tmp_path / "a.npz", said)


def test_a_sound_array_is_read(tmp_path):
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", how) as archive:
            archive.writestr("x.npy", member(ROWS % b"(4, 2)"))
        np.testing.assert_array_equal(read_vectors(tmp_path / "a.npz"), X)


def test_an_encrypted_and_a_spoiled_archive_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=X)
    (tmp_path / "a.npz").write_bytes(flagged((tmp_path / "a.npz").read_bytes()))
    refused(tmp_path / "a.npz", "encrypted")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", member(ROWS % b"(4, 2)"))
    content = bytearray((tmp_path / "b.npz").read_bytes())
    content[60:80] = bytes(20)
    (tmp_path / "b.npz").write_bytes(content)
    refused(tmp_path / "b.npz", "Corrupt")


def test_what_a_file_holds_in_place_of_numbers_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", X=X, Y=X)
    with pytest.raises(ValueError, match="it holds X, Y, and no numbers x"):
        read_vectors(tmp_path / "a.npz")
    for x in (X[0], X[:0], X[:, :0], X.astype(str), X.astype(object), X + np.inf):
        np.savez(tmp_path / "a.npz", x=x)
        with pytest.raises(ValueError, match=r"x is|no numbers x"):
            read_vectors(tmp_path / "a.npz")
