"""Names of folders of pictures: which are parts, which are classes, and which can be neither."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from unicodedata import category, normalize

from tl_runner.data.folders import has_pictures, inside
from tl_runner.errors import DataError, human_list

PARTS = ("train", "val", "test")
PART = re.compile(
    r"(?P<train>train(ing)?)|(?P<val>val(id(ation)?)?)|(?P<test>test(ing)?)", re.IGNORECASE
)
OF_A_SET = re.compile(r"[ _-]*set$", re.IGNORECASE)
NAMED = 5  # paths of a longer list that a message names
# categories of characters that no name of a class has: control characters, breaks of lines and of
# paragraphs, bytes that are no character
NO_NAME = ("Cc", "Zl", "Zp", "Cs")

Folders = Mapping[str, Sequence[Path]]  # of each class, by its name


def part_of(name: str) -> str | None:
    """The part that a folder's name stands for: ``train``, ``val``, ``test`` or none."""
    found = PART.fullmatch(OF_A_SET.sub("", name))
    return found.lastgroup if found else None


def parts_of(root: Path, key: str) -> dict[str, Path]:
    """The folders of a folder's parts, by part; empty where it has none.

    Raises:
        DataError: two are of one part, or some are parts and others are not, or none is to train
            on.
    """
    folders = inside(root).folders
    found: dict[str, list[Path]] = {}
    for folder in folders:
        if part := part_of(folder.name):
            found.setdefault(part, []).append(folder)
    parts = [f for fs in found.values() for f in fs]
    if not any(inside(f).folders or has_pictures(f) for f in parts):
        return {}
    others = [f for f in folders if not part_of(f.name)]
    if others:
        # a class may be called train: then it is no part, and holds its pictures as others do
        if not any(inside(f).folders for f in parts):
            return {}
        raise DataError(
            f"{key}: {human_list(f.name for f in parts)} look like parts, "
            f"and {human_list([f.name for f in others], NAMED)} beside them like no part. Parts "
            "are train, val and test alone: move what is none of them."
        )
    if twice := [folders for folders in found.values() if len(folders) > 1]:
        raise DataError(
            f"{key}: {human_list([f.name for f in twice[0]])} are one part under two names. Join "
            "them."
        )
    if "train" not in found:
        raise DataError(
            f"{key} has the part {human_list(sorted(f.name for f in parts))} "
            "and none to train on: add train, or point to the folder of classes itself."
        )
    return {part: found[part][0] for part in PARTS if part in found}


def refuse_parts(
    root: Path,
    roots: Mapping[str, Path],
    found: Mapping[str, Folders],
    key: str,
    known: Collection[str],
) -> None:
    """Refuse folders that hold no picture of their own and whose sub-folders recur.

    Raises:
        DataError: they would be classes, and look like parts or domains.
    """
    for part, here in roots.items():
        names = [name for name in found[part] if name not in known]
        inner = {n: {f.name for own in found[part][n] for f in inside(own).folders} for n in names}
        hollow = [n for n in names if inner[n] and not any(map(has_pictures, found[part][n]))]
        recurring = Counter(name for n in hollow for name in inner[n])
        often = sorted(name for name, count in recurring.items() if count > 1)
        if len(hollow) > 1 and len(hollow) == len(found[part]) and often:
            example = here.joinpath(hollow[0]).relative_to(root)
            raise DataError(
                f"{key}: {human_list(hollow, NAMED)} hold no picture of their own, and "
                f"{human_list(often, NAMED)} recur in them: these look like parts or domains, not "
                f"like classes. Point one level down (to {root / example}), name the parts train, "
                "val and test, or say that they are classes: "
                f"data.{key.partition('.')[2].partition('_')[0]}_classes=[{','.join(hollow)}]."
            )


def by_class(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Folders by the names of their classes.

    One name has several forms in Unicode, of which macOS writes another than Linux.
    """
    found: dict[str, list[Path]] = {}
    for folder in folders:
        found.setdefault(normalize("NFC", folder.name), []).append(folder)
    return found


def refuse_no_names(key: str, classes: Iterable[str]) -> None:
    """Refuse classes whose names no table and no message could show.

    Raises:
        DataError: there are some.
    """
    if wrong := [repr(n) for n in classes if any(category(c) in NO_NAME for c in n)]:
        raise DataError(
            f"{key}: {human_list(wrong, NAMED)}: a line break or another control character cannot "
            "be in the name of a class. Rename the folder."
        )
