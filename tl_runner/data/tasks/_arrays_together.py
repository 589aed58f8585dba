"""What is refused of a source's and a target's vectors together, and of labels that are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tl_runner.data.vectors import FORM, NO_LABEL, Arrays
from tl_runner.errors import DataError, human_list

NOTHING = "-1, NaN or an empty name"  # what a row without a label has


def check_together(found: Mapping[str, Arrays]) -> None:
    """Refuse files that do not go together, or whose labels are missing where they are needed.

    Raises:
        DataError: vectors of other lengths, labels of two kinds, a source with rows without labels,
            or a target without any beside no source; a class in the test part alone, or one class
            where classes are learned.
    """
    lengths = {domain: arrays.x.shape[1] for domain, arrays in found.items()}
    if len({*lengths.values()}) > 1:
        raise DataError(
            f"the source's vectors have {lengths['source']} numbers and the target's "
            f"{lengths['target']}: they must be of one kind."
        )
    for domain, arrays in found.items():
        parts = {"x": arrays.labelled(), "x_test": arrays.test_labelled()}
        if domain == "source" and (some := [x for x, has in parts.items() if not has.all()]):
            has = parts[some[0]]
            raise DataError(
                f"data.source_file={arrays.file}: {int((~has).sum()):,} of {len(has):,} rows "
                f"have no label in {some[0].replace('x', 'y')} ({NOTHING}), and a source is to "
                "learn from. Leave them out there."
            )
        if arrays.test and not arrays.test_labelled().any():
            raise DataError(
                f"data.{domain}_file={arrays.file}: no row of x_test has a label ({NOTHING}), and "
                "a test part needs labels. Leave x_test and y_test out, and rows of x are tested "
                "on if they have labels; rows without labels go into x."
            )
    target = found["target"]
    if "source" not in found and not target.labelled().any():
        raise DataError(
            f"data.target_file={target.file} has no labels. {FORM} Rows without labels can be a "
            "target beside a labelled source: data.source_file."
        )
    kinds = {
        d: a.numbers
        for d, a in found.items()
        if d == "source" or a.labelled().any() or a.test_labelled().any()
    }
    if len({*kinds.values()}) > 1:
        said = ", ".join(
            f"{'numbers' if n else 'classes'} in data.{d}_file" for d, n in kinds.items()
        )
        raise DataError(
            f"y is of two kinds: {said}. Floats are numbers to predict; store classes as "
            "integers or names in both: y.astype(int)."
        )
    known = found["source"].classes if "source" in found else ()
    for domain, arrays in found.items():
        if later := later_alone(arrays, known):
            raise DataError(
                f"data.{domain}_file={arrays.file}: {human_list(later, 5)} of y_test is not in "
                "y, so nothing could learn it. Add rows to x and y, or leave these out."
            )
    foreign = [name for name in target.classes if name not in known]
    if "source" in found and foreign and not target.labelled().all():
        raise DataError(
            f"data.target_file={target.file}: {human_list(foreign, 5)} is no class of the source, "
            f"which has {human_list(known, 5)}."
        )
    for domain, arrays in found.items():
        refuse_one_class(arrays, f"data.{domain}_file", beside="source" in found)


def refuse_one_class(arrays: Arrays, key: str, beside: bool) -> None:
    """Refuse labels of one class, unless they are of some rows and the source says the classes.

    Raises:
        DataError: they are.
    """
    every = arrays.labelled().all()
    if arrays.numbers or len(arrays.classes) != 1 or (beside and not every):
        return
    cure = (
        f" Rows without a label ({NOTHING}) are of none: store classes -1 and 0 as 0 and 1."
        if not every
        else " Where the labels are not known leave y out."
        if beside and key == "data.target_file"
        else ""
    )
    raise DataError(
        f"{key}={arrays.file} holds one class, {arrays.classes[0]}: a classifier needs two or "
        f"more.{cure}"
    )


def later_alone(arrays: Arrays, known: Sequence[str]) -> list[str]:
    """Classes that only a file's test part has, and that nothing else teaches: where some training
    rows have no label they may be of any class of the source, ``known``."""
    if arrays.test is None or arrays.numbers:
        return []
    there = {str(name) for name in arrays.test[1]} - {NO_LABEL}
    taught = {str(name) for name in arrays.y} if arrays.y is not None else set()
    if not arrays.labelled().all():
        taught |= {*known}
    return sorted(there - taught)
