"""Printed digits with four labels: the digit, whether it is odd, its slant and its weight.

Embedded: rendered at run time, without a download.

Of matplotlib's fonts only the upright ones, so that the slant is that of the drawing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.augment import Affine
from tl_runner.data.rendered import SIDE, draw_views, font_files, render
from tl_runner.data.splits import Split, hold_out, see_labels
from tl_runner.data.task import Task

SLANTED = ("Oblique", "Italic", "BolIta", "Ita", "cmti")
BOLD = ("Bold", "Bol", "cmb10")
ALSO = {"parity": 2, "weight": 2, "slant": 0}  # classes of each task beside the digit; 0: a number


def load(
    *,
    per_face: int,
    jitter: Mapping[str, float],
    val_fraction: float,
    target_labels: int | str,
    seed: int,
) -> Task:
    """Task of a target alone; ``seed`` draws each digit's view, and the validation part.

    Labels beside the digit: ``parity`` (1: odd), ``weight`` (1: bold) and ``slant``, a number, in
    tens of degrees.

    Args:
        per_face: images of each digit in each of the faces to train on, a tenth of that to test on.
        jitter: ranges of the drawing; its ``shear`` is the slant's.
    """
    generator = randomness.generator(seed, "multitask")
    train, test = (
        drawn(n, Affine(**jitter), generator) for n in (per_face, max(1, per_face // 10))
    )
    kept, held_out = hold_out(len(train), val_fraction, generator)
    splits = see_labels(train.take(kept), target_labels, generator)
    if len(held_out) and "target_labelled" in splits:
        splits["target_val"] = train.take(held_out)
    return Task(
        name="multitask_digits",
        classes=tuple("0123456789"),
        splits={**splits, "target_test": test},
        protocol=f"{len(kept):,} / {len(test):,} rendered digits; tasks: digit, {', '.join(ALSO)}",
        also=ALSO,
    )


def drawn(per_face: int, jitter: Affine, generator: torch.Generator) -> Split:
    """Images of each digit in each upright face, ``per_face`` of each, with all labels."""
    files = font_files()
    faces = [i for i, file in enumerate(files) if not any(word in file.stem for word in SLANTED)]
    bold = torch.tensor([any(word in files[i].stem for word in BOLD) for i in faces])
    glyphs = render("0123456789")[faces]
    n, classes = glyphs.shape[:2]
    y = torch.arange(classes).repeat(n).repeat_interleave(per_face)
    theta = jitter.theta(len(y), generator)
    x = draw_views(glyphs.flatten(0, 1).repeat_interleave(per_face, dim=0), theta)
    assert x.shape[1:] == (1, SIDE, SIDE)
    weight = bold.long().repeat_interleave(classes * per_face)
    return Split(
        x,
        y,
        torch.arange(len(x)),
        also={"parity": y % 2, "weight": weight, "slant": slant(theta) / 10},
    )


def slant(theta: Tensor) -> Tensor:
    """Angle of the shear in affine maps (N, 2, 3), in degrees.

    That is what is left of them without their rotation and scales.
    """
    a, b, c, d = theta[:, 0, 0], theta[:, 0, 1], theta[:, 1, 0], theta[:, 1, 1]
    length = torch.hypot(a, c)
    cos, sin = a / length, c / length
    return torch.rad2deg(torch.atan2(cos * b + sin * d, cos * d - sin * b))
