"""Progress of a run on the console and in its log file: bars on a terminal, else plain lines."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

log = logging.getLogger("tl_runner")


class Bar:
    """One phase's bar; ``advance`` costs next to nothing per step."""

    def __init__(self, bars: Bars | None, task: int, done: int):
        self._bars, self._task, self._done, self._drawn = bars, task, done, 0.0

    def advance(self) -> None:
        self._done += 1
        if self._bars and (now := time.perf_counter()) - self._drawn > 0.1:
            self._bars.update(self._task, completed=self._done)  # type: ignore[arg-type]
            self._drawn = now


class Progress:
    """Messages to the console and to ``run.log``.

    The console is stderr, so that tables can be piped.

    Args:
        quiet: to ``run.log`` alone, as where several runs share a console.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True)
        self.fancy = self.console.is_terminal and not quiet
        log.setLevel(logging.INFO)
        log.propagate = False
        shown: logging.Handler
        if self.fancy:
            shown = RichHandler(
                console=self.console,
                show_time=False,
                show_path=False,
                show_level=False,
                markup=False,
                highlighter=NullHighlighter(),
            )
        else:
            shown = logging.StreamHandler(sys.stderr)
            shown.setFormatter(logging.Formatter("%(message)s"))
        self._handlers: list[logging.Handler] = []
        self._add(logging.NullHandler() if quiet else shown)

    def keep(self, file: Path) -> None:
        """Write to a log file as well."""
        file.parent.mkdir(parents=True, exist_ok=True)
        written = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
        written.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._add(written)

    def _add(self, handler: logging.Handler) -> None:
        self._handlers.append(handler)
        log.addHandler(handler)

    def close(self) -> None:
        """Let go of the handlers: a sweep runs many jobs in one process."""
        for handler in self._handlers:
            log.removeHandler(handler)
            handler.close()

    @contextmanager
    def phase(self, name: str, epochs: int, steps: int, done: int) -> Iterator[Bar]:
        """A bar over a phase's steps."""
        if not self.fancy:
            yield Bar(None, 0, done)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Bars(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(name, total=epochs * steps, completed=done)
            yield Bar(bars, task, done)

    def epoch(self, phase: str, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        """One line an epoch."""
        log.info(
            f"{phase} {epoch}/{epochs}  "
            + "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        )

    def say(self, text: str) -> None:
        log.info(text)

    def warn(self, text: str) -> None:
        log.warning(f"warning: {text}")


class Silent(Progress):
    """Nothing to watch and no log: for ranks other than 0."""

    def __init__(self) -> None:
        self.fancy = False
        self._handlers = []

    def keep(self, file: Path) -> None:
        pass

    def epoch(self, phase: str, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass
