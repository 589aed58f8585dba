"""Files of a folder of pictures: its parts, its classes, and which pictures have no label.

A folder is ``class/...``, or ``train/class/...``, ``val/class/...``, ``test/class/...`` with the
parts under any of their usual names. A target may also be a heap, pictures without class folders,
nested or not, in whole or in a part.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tl_runner.data.pictures import COMMON, SUFFIXES
from tl_runner.errors import DataError, human_list, nearest

PARTS = ("train", "val", "test")
PART = re.compile(
    r"(?P<train>train(ing)?)|(?P<val>val(id(ation)?)?)|(?P<test>test(ing)?)", re.IGNORECASE
)
OF_A_SET = re.compile(r"[ _-]*set$", re.IGNORECASE)
NO_CLASS = ("unknown", "unlabelled", "unlabeled")  # folders of pictures without a label
NONE = -1  # the label of a picture that has none
NAMED = 5  # paths of a longer list that a message names


@dataclass(frozen=True)
class Listing:
    """Pictures of a folder.

    Attributes:
        root: the folder.
        classes: names, sorted.
        files: sorted by class and path.
        labels: of each file, a position in ``classes``, or ``NONE``.
        parts: of each file, ``train``, ``val`` or ``test``; None where the folder leaves that to
            the seed.
        ignored: how many files are no pictures by their name, or lie beside the class folders.
        notes: what the user should know of how the folder was read.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...] | None
    ignored: int
    notes: tuple[str, ...] = ()

    @property
    def unlabelled(self) -> int:
        """How many pictures have no label."""
        return self.labels.count(NONE)


def listing_of(
    root: Path,
    domain: str,
    chosen: Sequence[str] | None = None,
    known: Sequence[str] | None = None,
    labels_wanted: bool = True,
) -> Listing:
    """Pictures that a folder holds, or those of its ``chosen`` classes alone.

    Args:
        domain: ``source`` or ``target``, for messages.
        known: classes that pictures without a label may be of, those of the source; None: every
            picture needs one.
        labels_wanted: whether training is to see labels of this folder; where it is not, folders
            of which none is a class of the source hold pictures without a label.

    Raises:
        DataError: it is not there, is no folder, has no class or not a chosen one, or one without
            pictures; its folders look like parts or domains.
    """
    key = f"data.{domain}_dir={root}"
    if not root.is_dir():
        raise DataError(
            f"{key}: there is no such folder. It should hold one folder a class, with the "
            "class's pictures in it."
        )
    roots = parts_of(root, key) or {"": root}
    inside = {part: [f.name for f in folders_of(here)] for part, here in roots.items()}
    named = {name for names in inside.values() for name in names}
    if not chosen:
        refuse_parts(root, roots, inside, key, known or ())
    if known is not None and not chosen:
        refuse_other_spelling(key, named, known)
    heaps = {
        part
        for part in roots
        if known is not None
        and not chosen
        and _is_heap(roots[part], inside[part], known, labels_wanted)
    }
    if heaps >= {"test"} and heaps != {*roots}:
        heaps -= {"test"}  # pictures to test on have labels, or are ignored
    unsure = {
        name
        for name in named
        if known is not None and not chosen and name.lower() in NO_CLASS and name not in known
    }
    classes = sorted({n for part in {*roots} - heaps for n in inside[part]} - unsure)
    if chosen:
        classes = _chosen(root, domain, classes, chosen)
    elif not (heaps or unsure):
        _two_or_more(key, classes, known)
    if known is not None and (heaps or unsure):
        if foreign := [name for name in classes if name not in known]:
            where = next(
                str((roots[p] / n).relative_to(root))
                for n in foreign
                for p in roots
                if n in inside[p]
            )
            raise DataError(
                f"{key}: {where} is no class of the source, which has "
                f"{human_list(known, NAMED)}.{nearest(foreign[0], known)} Rename or remove it."
            )
        classes = list(known)
    rows, ignored = _rows(root, roots, classes, heaps, unsure, key, known is not None)
    if not rows:
        raise DataError(f"{key} holds no picture ({COMMON}), alone or in folders of classes.")
    notes = []
    if heaps and (folders := sorted({n for part in heaps for n in inside[part]})):
        notes.append(
            f"none of its folders ({human_list(folders, NAMED)}) is a class of the source "
            f"({human_list(known or (), NAMED)}), so its pictures have no labels. Rename them if "
            "they are classes"
        )
    rows.sort(key=lambda row: (row[0], str(row[1])))
    parted = "" not in roots
    return Listing(
        root,
        tuple(classes),
        tuple(f for _, f, _ in rows),
        tuple(label for label, _, _ in rows),
        tuple(part for _, _, part in rows) if parted else None,
        ignored,
        tuple(notes),
    )


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
    inside = folders_of(root)
    found: dict[str, list[Path]] = {}
    for folder in inside:
        if part := part_of(folder.name):
            found.setdefault(part, []).append(folder)
    if not found or not any(holds_folders(f) or _loose(f) for fs in found.values() for f in fs):
        return {}
    others = [f for f in inside if not part_of(f.name)]
    if others:
        # a class may be called train: then it is no part, and holds its pictures as others do
        as_others = all(_loose(f) and not holds_folders(f) for fs in found.values() for f in fs)
        if as_others or not any(holds_folders(f) for fs in found.values() for f in fs):
            return {}
        raise DataError(
            f"{key}: {human_list([f.name for fs in found.values() for f in fs])} look like parts, "
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
            f"{key} has the part {human_list(sorted(f.name for fs in found.values() for f in fs))} "
            "and none to train on: add train, or point to the folder of classes itself."
        )
    return {part: found[part][0] for part in PARTS if part in found}


def refuse_parts(
    root: Path,
    roots: Mapping[str, Path],
    inside: Mapping[str, Sequence[str]],
    key: str,
    known: Collection[str],
) -> None:
    """Refuse folders that hold no picture of their own and whose sub-folders recur.

    Raises:
        DataError: they would be classes, and look like parts or domains.
    """
    for part, here in roots.items():
        names = [name for name in inside[part] if name not in known]
        below = {name: {f.name for f in folders_of(here / name)} for name in names}
        hollow = [n for n in names if below[n] and not _loose(here / n)]
        recurring = Counter(inner for n in hollow for inner in below[n])
        often = sorted(inner for inner, count in recurring.items() if count > 1)
        if len(hollow) > 1 and len(hollow) == len(inside[part]) and often:
            example = here.joinpath(hollow[0]).relative_to(root)
            raise DataError(
                f"{key}: {human_list(hollow, NAMED)} hold no picture of their own, and "
                f"{human_list(often, NAMED)} recur in them: these look like parts or domains, not "
                f"like classes. Point one level down (to {root / example}), name the parts train, "
                "val and test, or say that they are classes: "
                f"data.{key.partition('.')[2].partition('_')[0]}_classes=[{','.join(hollow)}]."
            )


def refuse_other_spelling(key: str, names: Collection[str], known: Sequence[str]) -> None:
    """Refuse folders that are the source's classes but for their spelling.

    Raises:
        DataError: some are; they would be read as pictures without labels.
    """
    plain = {_plain(name): name for name in known}
    wrong = {n: plain[_plain(n)] for n in sorted(names) if n not in known and _plain(n) in plain}
    if wrong:
        renamed = ", ".join(f"{name} to {right}" for name, right in [*wrong.items()][:NAMED])
        rest = [name for name in sorted(names) if name not in known and name not in wrong]
        unknown = f" {human_list(rest, NAMED)} is none of the source's either." if rest else ""
        raise DataError(
            f"{key}: {human_list(wrong, NAMED)} are the source's classes by another spelling. "
            f"Rename {renamed}.{unknown}"
        )


def _plain(name: str) -> str:
    """A name without case and signs."""
    return re.sub(r"[\W_]", "", name).casefold()


def _is_heap(here: Path, names: Sequence[str], known: Sequence[str], labels_wanted: bool) -> bool:
    """Whether a part holds pictures without labels."""
    if not {*names} - {n for n in names if n.lower() in NO_CLASS and n not in known}:
        return True
    return not labels_wanted and not {*names} & {*known}


def _chosen(root: Path, domain: str, classes: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """The classes that were named, sorted."""
    wanted = [str(name) for name in chosen]
    if unknown := [name for name in wanted if name not in classes]:
        hints = "".join(nearest(name, classes) for name in unknown)
        raise DataError(
            f"data.{domain}_classes: {root} has no class {human_list(unknown, NAMED)}. It has "
            f"{human_list(classes, NAMED)}.{hints}"
        )
    return sorted({*wanted})


def _two_or_more(key: str, classes: Sequence[str], known: Sequence[str] | None) -> None:
    """Refuse less than two classes where labels are needed."""
    if not classes:
        alone = "Pictures without labels can be a target beside a labelled source: data.source_dir."
        swapped = "A source needs labels; pictures without any are a target: data.target_dir."
        more = "" if known is not None else swapped if key.startswith("data.source") else alone
        raise DataError(
            f"{key} holds no folder of a class: put the pictures of a class into a folder "
            f"with its name. {more}".rstrip()
        )
    if len(classes) == 1:
        raise DataError(
            f"{key} holds one class, {classes[0]}: a classifier needs two folders or more."
        )


def _rows(
    root: Path,
    roots: Mapping[str, Path],
    classes: Sequence[str],
    heaps: Collection[str],
    unsure: Collection[str],
    key: str,
    empty_is_fine: bool,
) -> tuple[list[tuple[int, Path, str]], int]:
    """(label, file, part) of every picture, and how many other files were passed over."""
    rows: list[tuple[int, Path, str]] = []
    ignored, empty = 0, []
    only_later = {part: [n for n in classes if (roots[part] / n).is_dir()] for part in roots}
    for part, here in roots.items():
        if part in heaps:
            pictures, others = _files(here, here)
            rows += [(NONE, f, part) for f in pictures]
            ignored += others
            continue
        ignored += len(
            [f for f in here.iterdir() if f.is_file() and not hidden(f.relative_to(here))]
        )
        for label, name in [*enumerate(classes), *((NONE, name) for name in sorted(unsure))]:
            pictures, others = _files(here / name, here)
            ignored += others
            if not pictures and part in ("", "train") and name in classes and not heaps:
                empty.append(str((here / name).relative_to(root)))
            rows += [(label, f, part) for f in pictures]
    if empty:
        _refuse_empty(key, empty, roots, only_later)
    return rows, ignored


def _refuse_empty(
    key: str,
    empty: Sequence[str],
    roots: Mapping[str, Path],
    present: Mapping[str, Sequence[str]],
) -> None:
    """Say which class has nothing to train on, and where its pictures are.

    Raises:
        DataError: always.
    """
    later = [
        f"{roots[part].name}/{Path(name).name}"
        for name in empty
        for part in roots
        if part not in ("", "train") and Path(name).name in present[part]
    ]
    if later:
        train = roots["train"].name
        raise DataError(
            f"{key}: {human_list(later, NAMED)}: no picture of that class in {train}, so nothing "
            f"could learn it. Add {human_list(empty, NAMED)}, or remove "
            f"{human_list(later, NAMED)}."
        )
    raise DataError(
        f"{key}: no picture ({COMMON}) in {human_list(empty, NAMED)}. Add some, or "
        "remove the folder."
    )


def _files(folder: Path, here: Path) -> tuple[list[Path], int]:
    """Pictures below a folder, sorted, and the number of other files."""
    every = sorted(f for f in folder.rglob("*") if f.is_file() and not hidden(f.relative_to(here)))
    pictures = [f for f in every if is_picture(f)]
    return pictures, len(every) - len(pictures)


def _loose(folder: Path) -> bool:
    """Whether pictures lie in a folder itself."""
    return any(is_picture(f) and f.is_file() for f in folder.iterdir())


def is_picture(file: Path) -> bool:
    """Whether a file's name is a visible picture's."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def hidden(path: Path) -> bool:
    """Whether a part of a path begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def folders_of(root: Path) -> list[Path]:
    """Visible folders in a folder, sorted."""
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def holds_folders(folder: Path) -> bool:
    """Whether there are folders in a folder."""
    return bool(folders_of(folder))
