"""Tables of texts: CSV, TSV, JSON lines and Parquet, read by named columns and checked."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tl_runner.errors import DataError, nearest

DELIMITERS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITERS, *JSON_LINES, ".parquet")
FORM = (
    "A file should be .csv, .tsv, .jsonl or .parquet (the first three also with .gz), with a "
    "column of texts."
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class TextTable:
    """Rows of one file.

    Attributes:
        file: that they are from.
        texts: one a row.
        cells: of the other columns that were asked for, by the column's name; an empty text where
            a row has nothing there.
        lines: where each row stands in the file, from 1, the head not counted.
        left_out: how many rows had no text.
        digest: SHA-256 of the file.
    """

    file: Path
    texts: list[str]
    cells: dict[str, list[str]]
    lines: list[int]
    left_out: int
    digest: str

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: Sequence[int]) -> TextTable:
        """Table of some of the rows."""
        cells = {name: [cell[i] for i in rows] for name, cell in self.cells.items()}
        texts, lines = [self.texts[i] for i in rows], [self.lines[i] for i in rows]
        return replace(self, texts=texts, cells=cells, lines=lines)


def read(
    file: Path, key: str, text: str, others: Sequence[str] = (), optional: Sequence[str] = ()
) -> tuple[TextTable, bool]:
    """Texts and other columns of a file, and whether it has all the optional ones.

    Args:
        key: the setting that names it, for messages.
        text: the column of the texts.
        others: further columns, all of which it must have.
        optional: columns that it may have.

    Raises:
        DataError: it is not there, is damaged or of another kind, has no such column or no text.
    """
    where = f"{key}={file}"
    if file.is_dir():
        raise DataError(f"{where} is a folder. {FORM}")
    if not file.is_file():
        raise DataError(f"{where}: there is no such file. {FORM}")
    content = file.read_bytes()
    rows, columns = _rows(file, content, where)
    if missing := [name for name in (text, *others) if name not in columns]:
        raise DataError(
            f"{where} has no column {missing[0]}.{nearest(missing[0], columns)} It has "
            f"{', '.join(columns) or 'none'}: name them with data.text, data.label (or "
            "data.number) and data.domain."
        )
    others = [*others, *(name for name in optional if name in columns)]
    texts: list[str] = []
    cells: dict[str, list[str]] = {name: [] for name in others}
    lines: list[int] = []
    number = 0
    for number, row in enumerate(rows, 1):
        one = _cell(row.get(text)).strip()
        if not one:
            continue
        texts.append(one)
        lines.append(number)
        for name in others:
            cells[name].append(_cell(row.get(name)).strip())
    if not texts:
        raise DataError(f"{where} has no text in its column {text}.")
    digest = hashlib.sha256(content).hexdigest()
    table = TextTable(file, texts, cells, lines, number - len(texts), digest)
    return table, all(name in columns for name in optional)


def _cell(value: Any) -> str:
    """A value as text; nothing of what is no text, number or truth value."""
    return "" if value is None or value != value else str(value)


def _rows(file: Path, content: bytes, where: str) -> tuple[Iterator[Row], list[str]]:
    """(rows, names of the columns) of a file's content."""
    suffixes = [s.lower() for s in file.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes = suffixes[:-1]
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, ValueError) as error:
            raise DataError(f"{where} cannot be read as .gz ({error}).") from error
    kind = suffixes[-1] if suffixes else ""
    if kind == ".parquet":
        return _parquet(content, where)
    if kind not in SUFFIXES:
        raise DataError(f"{where}: {kind or 'a file without a suffix'} is no table. {FORM}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{where} is not UTF-8: line {line} has the byte {content[error.start]:#04x}. Save it "
            "as UTF-8; iconv -f latin1 -t utf-8 does that for Western European files."
        ) from error
    return (_json_lines if kind in JSON_LINES else _delimited)(text, kind, where)


def _delimited(text: str, kind: str, where: str) -> tuple[Iterator[Row], list[str]]:
    csv.field_size_limit(sys.maxsize)  # a text may be long
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[kind], strict=True)
    try:
        columns = next(lines, [])
    except csv.Error as error:
        raise DataError(f"{where}, the head: {error}.") from error
    if len({*columns}) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{where} has two columns {twice!r}.")

    def rows() -> Iterator[Row]:
        number = 0
        try:
            for number, cells in enumerate(lines, 1):
                if not cells:  # an empty line
                    yield {}
                    continue
                if len(cells) != len(columns):
                    raise DataError(
                        f"{where}, row {number} (line {lines.line_num}): {len(cells)} columns, "
                        f"and the head has {len(columns)}. A text with a delimiter or a quote in "
                        "it stands in double quotes, its own quotes doubled."
                    )
                yield dict(zip(columns, cells, strict=True))
        except csv.Error as error:
            raise DataError(f"{where}, row {number + 1}: {error}.") from error

    return rows(), columns


def _json_lines(text: str, kind: str, where: str) -> tuple[Iterator[Row], list[str]]:
    found: list[Row] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}, line {number} is no JSON ({error}).") from error
        if not isinstance(row, dict):
            raise DataError(f'{where}, line {number} is no object: {{"text": "...", ...}}.')
        found.append(row)
        columns |= dict.fromkeys(map(str, row))
    return iter(found), [*columns]


def _parquet(content: bytes, where: str) -> tuple[Iterator[Row], list[str]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"{where} needs pyarrow ({error}): pip install 'tl-run[text]'.") from error
    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{where} cannot be read as Parquet ({error}).") from error
    return iter(table.to_pylist()), [str(name) for name in table.column_names]
