"""Printed digits and handwritten ones, embedded: fonts2digits, or digits2fonts. No download."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tl_runner.data.augment import Affine
from tl_runner.data.rendered import font_digits, handwritten_split
from tl_runner.data.splits import hold_out, see_labels
from tl_runner.data.task import Task
from tl_runner.errors import DataError


def load(
    *,
    source: str | Sequence[str],
    target: str | Sequence[str],
    per_face: int,
    jitter: dict[str, float],
    val_fraction: float,
    target_labels: int | str,
    seed: int,
) -> Task:
    """Task of printed and handwritten digits, either way round.

    ``seed`` draws the jitter and the held-out part; the handwritten split is the same for all.

    Raises:
        DataError: ``source`` and ``target`` are not ``fonts`` and ``digits``.
    """
    (source, *more), (target, *others) = (
        [names] if isinstance(names, str) else names for names in (source, target)
    )
    if more or others or {source, target} != {"fonts", "digits"}:
        raise DataError(
            f"data.source={source}, data.target={target}: here one is fonts and the other digits. "
            "Other domains, and several at once: data=digits_multi."
        )
    generator = torch.Generator().manual_seed(seed)
    fonts = font_digits(per_face, Affine(**jitter), generator)
    digits, test = handwritten_split()
    whole = {"fonts": fonts, "digits": digits}
    kept, held_out = hold_out(len(whole[source]), val_fraction, generator)
    tests = {
        "fonts": font_digits(max(1, per_face // 10), Affine(**jitter), generator),
        "digits": test,
    }
    train = {**whole, source: whole[source].take(kept)}
    return Task(
        name=f"{source}2{target}",
        classes=tuple("0123456789"),
        splits={
            "source_train": train[source],
            **({"source_val": whole[source].take(held_out)} if len(held_out) else {}),
            "source_test": tests[source],
            **see_labels(train[target], target_labels, generator),
            "target_test": tests[target],
        },
        protocol=f"{len(train['fonts'])} rendered training images, {len(train['digits'])} / "
        f"{len(test)} handwritten ones (fixed split)",
        sources=(source,),
        targets=(target,),
    )
