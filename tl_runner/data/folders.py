"""What lies in a folder and below it: links stand for what they lead to, and nothing is lost."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tl_runner.data.picture_file import SUFFIXES
from tl_runner.errors import DataError

NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


@dataclass
class Found:
    """Visible entries, those whose names do not begin with a dot.

    Attributes:
        folders: those that lie in the folder itself, sorted.
        files: regular files, sorted.
        dangling: links that lead nowhere, sorted.
        others: how many are neither, or are links to a folder that was gone through already.
    """

    folders: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    others: int = 0


def inside(folder: Path) -> Found:
    """Entries of a folder itself.

    Raises:
        DataError: it may not be read, or cannot be.
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        raise _no_access(folder, error, f"chmod -R u+rX '{folder}'") from error
    found = Found()
    for path in (folder / name for name in names):
        status = _status(path)
        if status is None:
            found.dangling.append(path)
        elif stat.S_ISDIR(status.st_mode):
            found.folders.append(path)
        elif stat.S_ISREG(status.st_mode):
            found.files.append(path)
        else:
            found.others += 1
    return found


def below(folders: Iterable[Path], above: Iterable[Path] = ()) -> Found:
    """Files in folders and in all that they hold.

    Links to folders are followed. Every folder is gone through once, by its own name rather than a
    link's, so that links in a circle end; those ``above`` are not gone through at all.

    Raises:
        DataError: one of them may not be read, or cannot be.
    """
    found = Found()
    seen = {_identity(folder) for folder in above}
    waiting, links = [*folders], list[Path]()
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        identity = _identity(folder)
        if identity in seen:
            found.others += 1
            continue
        seen.add(identity)
        here = inside(folder)
        found.files += here.files
        found.dangling += here.dangling
        found.others += here.others
        for other in here.folders:
            (links if other.is_symlink() else waiting).append(other)
    found.files.sort()
    found.dangling.sort()
    return found


def is_folder(path: Path) -> bool:
    """Whether a path leads to a folder.

    Raises:
        DataError: it may not be looked at.
    """
    status = _status(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def is_picture(file: Path) -> bool:
    """Whether a file's name is a picture's."""
    return file.suffix.lower() in SUFFIXES


def has_pictures(folder: Path) -> bool:
    """Whether pictures lie in a folder itself."""
    return any(is_picture(file) for file in inside(folder).files)


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from every other, by whatever path it is reached."""
    status = _status(folder)
    return status and (status.st_dev, status.st_ino)


def _status(path: Path) -> os.stat_result | None:
    """Status of what a path leads to; None where there is nothing.

    Raises:
        DataError: it may not be looked at, or cannot be.
    """
    try:
        return path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        held_in = Path(os.path.realpath(path)).parent
        raise _no_access(path, error, f"chmod u+x '{held_in}'") from error


def _no_access(path: Path, error: OSError, command: str) -> DataError:
    """The error of a folder whose pictures would be missing without a word."""
    return DataError(
        f"{path} cannot be read ({error.strerror or error}), and its pictures would be missing. "
        f"Give yourself the right to read it ({command}), or move it elsewhere."
    )
