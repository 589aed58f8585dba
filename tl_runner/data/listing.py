"""Files of a folder of pictures: its parts, its classes, and which pictures have no label.

A folder is ``class/...``, or ``train/class/...``, ``val/class/...``, ``test/class/...`` with the
parts under any of their usual names. A target may also be a heap, pictures without class folders,
nested or not, in whole or in a part.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from tl_runner.data.folder_names import (
    NAMED,
    Folders,
    by_class,
    parts_of,
    refuse_no_names,
    refuse_parts,
)
from tl_runner.data.folders import below, inside, is_folder, is_picture
from tl_runner.data.picture_file import COMMON
from tl_runner.errors import DataError, human_list, nearest

NO_CLASS = ("unknown", "unlabelled", "unlabeled")  # folders of pictures without a label
NONE = -1  # the label of a picture that has none


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
        ignored: how many files are no pictures by their name, or lie beside the class folders;
            links that lead nowhere, or to a folder that was gone through already, count as files.
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
    if not is_folder(root):
        raise DataError(
            f"{key}: there is no such folder. It should hold one folder a class, with the "
            "class's pictures in it."
        )
    roots = parts_of(root, key) or {"": root}
    found = {part: by_class(inside(here).folders) for part, here in roots.items()}
    named = {name for names in found.values() for name in names}
    if not chosen:
        refuse_parts(root, roots, found, key, known or ())
    if known is not None and not chosen:
        refuse_other_spelling(key, named, known)
    heaps = {
        part
        for part in roots
        if known is not None and not chosen and _is_heap(found[part], known, labels_wanted)
    }
    if heaps >= {"test"} and heaps != {*roots}:
        heaps -= {"test"}  # pictures to test on have labels, or are ignored
    unsure = {
        name
        for name in named
        if known is not None and not chosen and name.lower() in NO_CLASS and name not in known
    }
    classes = sorted({n for part in {*roots} - heaps for n in found[part]} - unsure)
    if chosen:
        classes = _chosen(root, domain, classes, chosen)
    elif not (heaps or unsure):
        _two_or_more(key, classes, known)
    if known is not None and (heaps or unsure):
        if foreign := [name for name in classes if name not in known]:
            where = next(
                found[p][n][0].relative_to(root) for n in foreign for p in roots if n in found[p]
            )
            raise DataError(
                f"{key}: {where} is no class of the source, which has "
                f"{human_list(known, NAMED)}.{nearest(foreign[0], known)} Rename or remove it."
            )
        classes = list(known)
    refuse_no_names(key, classes)
    rows, ignored, dangling = _rows(root, roots, found, classes, heaps, unsure, key)
    if not rows:
        raise DataError(f"{key} holds no picture ({COMMON}), alone or in folders of classes.")
    notes = []
    if heaps and (folders := sorted({n for part in heaps for n in found[part]})):
        notes.append(
            f"none of its folders ({human_list(folders, NAMED)}) is a class of the source "
            f"({human_list(known or (), NAMED)}), so its pictures have no labels. Rename them if "
            "they are classes"
        )
    if dangling:
        links = human_list((link.relative_to(root) for link in dangling), NAMED)
        notes.append(f"{len(dangling):,} of the files ignored are links that lead nowhere: {links}")
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


def _is_heap(names: Collection[str], known: Sequence[str], labels_wanted: bool) -> bool:
    """Whether a part holds pictures without labels."""
    if not {*names} - {n for n in names if n.lower() in NO_CLASS and n not in known}:
        return True
    return not labels_wanted and not {*names} & {*known}


def _chosen(root: Path, domain: str, classes: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """The classes that were named, sorted."""
    wanted = [normalize("NFC", str(name)) for name in chosen]
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
    found: Mapping[str, Folders],
    classes: Sequence[str],
    heaps: Collection[str],
    unsure: Collection[str],
    key: str,
) -> tuple[list[tuple[int, Path, str]], int, list[Path]]:
    """(label, file, part) of every picture, how many files were passed over, and dangling links."""
    rows: list[tuple[int, Path, str]] = []
    ignored, dangling, empty = 0, list[Path](), []
    for here in sorted({root, *roots.values()} - {roots[part] for part in heaps}):
        beside = inside(here)
        ignored += len(beside.files) + len(beside.dangling) + beside.others
        dangling += beside.dangling
    for part, here in roots.items():
        groups = [(label, name) for label, name in enumerate(classes)]
        groups += [(NONE, name) for name in sorted(unsure)]
        for label, name in [(NONE, "")] if part in heaps else groups:
            folders = found[part].get(name, []) if name else [here]
            lying = below(folders, {root, here} - {*folders})
            pictures = [f for f in lying.files if is_picture(f)]
            rows += [(label, f, part) for f in pictures]
            ignored += len(lying.files) - len(pictures) + len(lying.dangling) + lying.others
            dangling += lying.dangling
            if not pictures and part in ("", "train") and name in classes and not heaps:
                empty.append(str((here / name).relative_to(root)))
    if empty:
        _refuse_empty(key, empty, roots, found)
    return rows, ignored, dangling


def _refuse_empty(
    key: str,
    empty: Sequence[str],
    roots: Mapping[str, Path],
    present: Mapping[str, Collection[str]],
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
