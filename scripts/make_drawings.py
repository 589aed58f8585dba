"""Pictograms of two vendors as a labelled source and an unlabelled target beside a labelled test.

    python scripts/make_drawings.py drawings.tar OUT

``drawings.tar`` holds ``drawings/VENDOR/CLASS/CODE.png``, and a code is the same pictogram in both
vendors' drawing. Codes are divided at random, class by class, so that no pictogram is in two parts:
half for the source, three tenths for the target to adapt to, two tenths to test on. For each
direction OUT gets ``VENDOR2OTHER/source/CLASS``, ``VENDOR2OTHER/target/train`` (a heap without
classes) and ``VENDOR2OTHER/target/test/CLASS``.
"""

from __future__ import annotations

import random
import sys
import tarfile
from collections import defaultdict
from pathlib import Path

SHARES = {"source": 0.5, "train": 0.3, "test": 0.2}


def parts(codes: list[str], draw: random.Random) -> dict[str, list[str]]:
    """Codes of one class at random in parts of these shares."""
    order = draw.sample(sorted(codes), len(codes))
    first, second = round(SHARES["source"] * len(order)), round(SHARES["train"] * len(order))
    return {
        "source": order[:first],
        "train": order[first : first + second],
        "test": order[first + second :],
    }


def main(tar: Path, out: Path) -> None:
    pictures: dict[str, dict[str, dict[str, bytes]]] = defaultdict(lambda: defaultdict(dict))
    with tarfile.open(tar) as whole:
        for member in whole:
            found = Path(member.name).parts
            if len(found) == 4 and member.isfile() and member.name.endswith(".png"):
                content = whole.extractfile(member)
                assert content is not None
                pictures[found[1]][found[2]][Path(found[3]).stem] = content.read()
    one, other = sorted(pictures)
    for source, target in ((one, other), (other, one)):
        draw, root = random.Random(0), out / f"{source}2{target}"
        for name in sorted(pictures[source]):
            shared = {*pictures[source][name]} & {*pictures[target][name]}
            for part, codes in parts([*shared], draw).items():
                vendor = source if part == "source" else target
                folder = {
                    "source": root / "source" / name,
                    "train": root / "target" / "train",
                    "test": root / "target" / "test" / name,
                }[part]
                folder.mkdir(parents=True, exist_ok=True)
                for code in codes:
                    (folder / f"{code}.png").write_bytes(pictures[vendor][name][code])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
