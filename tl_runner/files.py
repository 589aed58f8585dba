"""Writing files whole, and locks between processes. Imports nothing heavy.

Locks are ``flock``'s: the kernel drops them when a process ends, however it ends. Where there are
none (Windows, some network file systems) nobody is kept waiting.
"""

from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tl_runner.errors import BusyError

POLL_S = 0.2  # between two tries at a lock that another process has


def write_atomic(path: Path, content: bytes | memoryview) -> None:
    """Replace ``path``'s content in one step; nothing is left behind when that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet computes begins so


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as CSV that a spreadsheet shows as it is.

    A text that would be taken for a formula has an apostrophe before it; numbers have none. Cells
    with any kind of line break are quoted.
    """
    lines = []
    for row in rows:
        out = io.StringIO()
        # its own terminator is what the writer quotes
        csv.writer(out, lineterminator="\r\n").writerow(
            [_inert("" if cell is None else str(cell)) for cell in row]
        )
        lines.append(out.getvalue()[:-2] + "\n")
    return "".join(lines)


def _inert(cell: str) -> str:
    if not cell.startswith(FORMULA):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def inert_path(name: str) -> str:
    """A relative path that is still the file's and begins like no formula."""
    return f"./{name}" if name.startswith(FORMULA) else name


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against a second process.

    Raises:
        BusyError: another process holds it.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield
        return
    try:
        if not locked(handle):
            raise BusyError(f"{folder} is being run by another process at this moment.")
        yield
    finally:
        os.close(handle)


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder at this moment; False where there are no locks."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False


def locked(handle: int) -> bool:
    """True if this process alone now has the lock of an open file, or if there are no locks."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # Windows; a file system without locks
        pass
    return True


@contextmanager
def claimed(file: Path, asked_to_stop: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Wait until no other process claims ``file``, then keep others waiting.

    Args:
        file: made for this alone; its content means nothing.
        asked_to_stop: ends the waiting early, without the claim.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = open(file, "w")  # noqa: SIM115
    except OSError:
        yield
        return
    with lock:
        while not locked(lock.fileno()) and not asked_to_stop():
            time.sleep(POLL_S)
        yield
