"""Texts of two kinds as tables for ``data=texts``: sentiment of four domains, and newsgroups.

    python scripts/make_texts.py TEXTS OUT

``TEXTS/sentiment4/DOMAIN.csv`` has columns ``text`` and ``rating``, the mean of human judgements
from -4 to 4. As the field has it a text is positive at 0.5 and above, negative at -0.5 and below,
and left out between. OUT gets ``sentiment4.csv`` with columns text, label and domain.

``TEXTS/newsgroups20/{train,test}.csv.gz`` has columns ``label`` and ``text``. The cross-domain
tasks of Dai et al. (KDD 2007) tell two groups of newsgroups apart, comp against sci and so on, and
source and target have other subgroups of each. OUT gets ``A_vs_B.csv`` with columns text, label and
domain for three pairs of groups.
"""

from __future__ import annotations

import csv
import gzip
import sys
from pathlib import Path

PAIRS = (("comp", "sci"), ("rec", "talk"), ("sci", "talk"))
# subgroups that the source has; the target has the others
OF_SOURCE = {
    "comp": ("comp.graphics", "comp.os.ms-windows.misc"),
    "sci": ("sci.crypt", "sci.electronics"),
    "rec": ("rec.autos", "rec.motorcycles"),
    "talk": ("talk.politics.guns", "talk.politics.misc"),
}
HEAD = ("text", "label", "domain")


def write(file: Path, rows: list[tuple[str, str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([HEAD, *rows])


def sentiment(folder: Path) -> list[tuple[str, str, str]]:
    rows = []
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="", encoding="utf-8") as content:
            for row in csv.DictReader(content):
                rating = float(row["rating"])
                if abs(rating) >= 0.5:
                    rows.append((row["text"], "positive" if rating > 0 else "negative", file.stem))
    return rows


def newsgroups(folder: Path, pair: tuple[str, str]) -> list[tuple[str, str, str]]:
    rows = []
    for part in ("train", "test"):
        with gzip.open(folder / f"{part}.csv.gz", "rt", newline="", encoding="utf-8") as content:
            for row in csv.DictReader(content):
                group = row["label"].partition(".")[0]
                if group in pair and row["text"].strip():
                    of_source = row["label"] in OF_SOURCE[group]
                    rows.append((row["text"], group, "source" if of_source else "target"))
    return rows


def main(texts: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    csv.field_size_limit(sys.maxsize)
    write(out / "sentiment4.csv", sentiment(texts / "sentiment4"))
    for pair in PAIRS:
        write(out / f"{'_vs_'.join(pair)}.csv", newsgroups(texts / "newsgroups20", pair))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
