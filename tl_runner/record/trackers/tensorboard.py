"""``track=tensorboard``: every line of ``metrics.jsonl`` as scalars in the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tl_runner.errors import ConfigError


class Tracker:
    """Scalars named ``phase/split/metric`` over the phase's steps.

    Args:
        folder: of the run.
        rows: what ``metrics.jsonl`` holds already; a resumed run's curves are written anew from
            them.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError(
                [f"track=tensorboard needs TensorBoard ({error}): pip install 'tl-run[track]'."]
            ) from error
        for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(folder / "tensorboard"))
        for row in rows:
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """One line; those without a step, of a phase's end, stand at its last epoch."""
        step = row.get("step", row["epoch"])
        kind = "" if "step" in row else "end of "
        for name, value in row.items():
            if isinstance(value, float) and name != "wall_s":
                self._writer.add_scalar(f"{kind}{row['phase']}/{row['split']}/{name}", value, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
