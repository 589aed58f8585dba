"""The words of a tiny run, how a command ended, what it wrote, and where the real data lie."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# a whole run of every phase in about a second, on embedded data
TINY = (
    "device=cpu",
    "figures=false",
    "data.per_face=2",
    "train.epochs=2",
    "train.steps_per_epoch=4",
    "train.batch_size=32",
    "train.limit.samples=120",
)


@cache
def data_root() -> Path | None:
    """The data root with MNIST and USPS, or None.

    Asked while tests are collected, before one of them changes the environment.
    """
    for root in (os.environ.get("TL_DATA_ROOT"), ROOT.parent / "shared" / "data", ROOT / "data"):
        if root and (Path(root) / "MNIST").is_dir() and (Path(root) / "USPS").is_dir():
            return Path(root).resolve()
    return None


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def results(folder: Path) -> list[dict]:
    """Every result.json below a folder, in order of path."""
    return [json.loads(p.read_text()) for p in sorted(folder.rglob("result.json"))]
