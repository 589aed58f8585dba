"""A run folder's files, and how each is written."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tl_runner.files import write_atomic


class RunFolder:
    """Paths and writers of one run; see docs/run_folder.md."""

    def __init__(self, path: Path):
        self.path = path
        self.last = path / "checkpoints" / "last.pt"
        self.best = path / "checkpoints" / "best.pt"
        self.metrics_file = path / "metrics.jsonl"
        self.result_file = path / "result.json"
        self.figures = path / "figures"
        self.tracker: Any = None

    def metric(self, row: Mapping[str, Any]) -> None:
        """Append one line to ``metrics.jsonl``.

        It is out of our hands before the next checkpoint is written.
        """
        with open(self.metrics_file, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        if self.tracker:
            self.tracker.add(row)

    def metrics(self) -> list[dict[str, Any]]:
        """Every line of ``metrics.jsonl``."""
        if not self.metrics_file.exists():
            return []
        return [
            json.loads(line) for line in self.metrics_file.read_text(encoding="utf-8").splitlines()
        ]

    def metrics_bytes(self) -> int:
        """Length of ``metrics.jsonl``, for :meth:`cut_metrics`."""
        return self.metrics_file.stat().st_size if self.metrics_file.exists() else 0

    def cut_metrics(self, size: int) -> None:
        """Drop lines that were written after a checkpoint."""
        if self.metrics_bytes() > size:
            os.truncate(self.metrics_file, size)

    def json(self, name: str, content: Any) -> None:
        """Write a JSON file whole; a list of numbers stands on one line."""
        text = json.dumps(content, indent=2, allow_nan=False)
        text = re.sub(
            r"\[\n([^\[\]{}\"]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text
        )
        write_atomic(self.path / name, (text + "\n").encode())

    def text(self, name: str, content: str) -> None:
        """Write a text file whole; names of files that are no UTF-8 as the bytes that they are."""
        write_atomic(self.path / name, content.encode(errors="surrogateescape"))

    def content(self, name: str, content: bytes) -> None:
        """Write a file of bytes whole."""
        write_atomic(self.path / name, content)

    def arrays(self, name: str, content: Mapping[str, Any]) -> None:
        """Write NumPy arrays whole, as a compressed ``.npz``."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **content)
        write_atomic(self.path / name, buffer.getbuffer())

    def result(self) -> dict[str, Any] | None:
        """Content of ``result.json``, or None before the run got that far."""
        return (
            json.loads(self.result_file.read_text(encoding="utf-8"))
            if self.result_file.exists()
            else None
        )


def named_choices(choices: Mapping[str, str]) -> dict[str, str]:
    """Choices of the groups that a record names."""
    return {group: choices[group] for group in ("data", "backbone", "method", "device")}


def state(folder: Path) -> str:
    """State of a run: done, failed, interrupted, or missing."""
    try:
        return str(json.loads((folder / "result.json").read_text(encoding="utf-8"))["status"])
    except FileNotFoundError:
        return "interrupted" if (folder / "run.log").exists() else "missing"
    except (OSError, ValueError, KeyError, TypeError):
        return "interrupted"


class Unwritten(RunFolder):
    """Run folder as ranks other than 0 have it: they read it, and write nothing."""

    def metric(self, row: Mapping[str, Any]) -> None:
        pass

    def cut_metrics(self, size: int) -> None:
        pass

    def json(self, name: str, content: Any) -> None:
        pass

    def text(self, name: str, content: str) -> None:
        pass

    def content(self, name: str, content: bytes) -> None:
        pass
