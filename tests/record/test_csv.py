"""CSV files as spreadsheets and programs read them."""

from __future__ import annotations

import csv
import io

import pytest

from tl_runner.files import csv_text, inert_path
from tl_runner.record.run_folder import RunFolder


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("cat", "cat"),
        ("a,b", "a,b"),
        ("=1+1", "'=1+1"),
        ("@SUM(1)", "'@SUM(1)"),
        ("-quiet", "'-quiet"),
        ("-0.25", "-0.25"),
        ("+1e-3", "+1e-3"),
        (-0.25, "-0.25"),
        (None, ""),
        ("two\rlines", "two\rlines"),
        ("two\nlines", "two\nlines"),
        ('a "word"', 'a "word"'),
    ],
)
def test_a_cell_is_read_as_one_cell_and_computes_nothing(cell, read):
    text = csv_text([["head", "more"], [cell, 1]])
    assert [*csv.reader(io.StringIO(text, newline=""))] == [["head", "more"], [read, "1"]]
    assert text.endswith("1\n")


def test_a_path_that_looks_like_a_formula_is_still_the_file(tmp_path):
    (tmp_path / "=1.png").touch()
    assert inert_path("=1.png") == "./=1.png"
    assert (tmp_path / inert_path("=1.png")).exists()
    assert inert_path("cat/=1.png") == "cat/=1.png"


def test_names_of_files_that_are_no_utf_8_are_written_as_they_are(tmp_path):
    name = b"bad\xff.png".decode(errors="surrogateescape")
    RunFolder(tmp_path).text("predictions.csv", csv_text([[name, "cat"]]))
    assert (tmp_path / "predictions.csv").read_bytes() == b"bad\xff.png,cat\n"
