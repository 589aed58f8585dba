"""Few-shot characters rendered from the fonts that matplotlib ships.

A class is a code point, its images are faces and views of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.augment import Affine
from tl_runner.data.fewshot_task import by_class, fewshot
from tl_runner.data.rendered import draw_views, font_files, render_in
from tl_runner.data.splits import Split
from tl_runner.data.task import Task
from tl_runner.errors import DataError

# Latin, Greek, Cyrillic, signs
BLOCKS = (
    (0x21, 0x7E),
    (0xA1, 0x24F),
    (0x370, 0x3FF),
    (0x400, 0x52F),
    (0x2190, 0x21FF),
    (0x2200, 0x22FF),
)
FACES = 8  # at least, of a class
SAME = 0.9  # cosine of two characters' mean images above which the later one is left out


@cache
def characters() -> tuple[list[int], Tensor, Tensor]:
    """Code points, images float (N, 64, 64), and the position of each image's code point.

    Of characters that enough faces have and that differ.

    A and capital alpha are one drawing, and so are 6 and 9 turned: of such the first is kept. What
    looks like itself turned is left out, since turns may be classes.
    """
    from matplotlib.ft2font import FT2Font

    # Computer Modern numbers its glyphs its own way
    files = [file for file in font_files() if not file.stem.startswith("cm")]
    has = [set(FT2Font(str(file)).get_charmap()) for file in files]
    wanted = [
        c
        for low, high in BLOCKS
        for c in range(low, high + 1)
        if sum(c in own for own in has) >= FACES
    ]
    images: dict[int, list[np.ndarray]] = {}
    for file, own in zip(files, has, strict=True):
        covered = [c for c in wanted if c in own]
        for c, image in zip(covered, render_in(file, "".join(map(chr, covered)), 64), strict=True):
            if image is not None:
                images.setdefault(c, []).append(image)
    found = [c for c in wanted if len(images.get(c, ())) >= FACES]
    drawings = torch.from_numpy(np.stack([np.mean(images[c], 0) for c in found]))
    turns = [torch.rot90(drawings, turn, (1, 2)).flatten(1) for turn in range(4)]
    turns = [t / t.norm(dim=1, keepdim=True) for t in turns]
    same = torch.stack([turns[0] @ t.T > SAME for t in turns]).any(0)
    itself = torch.stack([(turns[0] * t).sum(1) > SAME for t in turns[1:]]).any(0)
    kept: list[int] = []
    for i in range(len(found)):
        if not itself[i] and not same[i, kept].any():
            kept.append(i)
    points = [found[i] for i in kept]
    owner = torch.tensor([i for i, c in enumerate(points) for _ in images[c]])
    return points, torch.from_numpy(np.stack([image for c in points for image in images[c]])), owner


def load(
    *,
    ways: int,
    shots: int,
    queries: int,
    training: Mapping[str, int | None],
    tasks: Mapping[str, int],
    images: int,
    jitter: Mapping[str, float],
    classes: Mapping[str, int],
    rotations: Mapping[str, bool],
    seed: int,
) -> Task:
    """Task of few-shot characters; ``seed`` draws their views and which are for training.

    Args:
        ways, shots, queries, training, tasks, rotations: as
            :func:`tl_runner.data.fewshot_task.fewshot`'s.
        images: views of each character.
        jitter: their ranges.
        classes: characters of ``val`` and ``test``; the rest is for training.

    Raises:
        DataError: no character is left for training.
    """
    points, glyphs, owner = characters()
    if (rest := len(points) - classes["val"] - classes["test"]) < 1:
        raise DataError(
            f"glyphs has {len(points)} characters: data.classes.val and data.classes.test leave "
            "none for training."
        )
    generator = randomness.generator(seed, "glyphs")
    counts = owner.bincount()
    first = counts.cumsum(0) - counts
    face = (torch.rand(len(points), images, generator=generator) * counts[:, None]).long()
    if images >= int(counts.max()):  # each face at least once
        face = (torch.arange(images) % counts[:, None]).long()
    x = draw_views(
        glyphs[(first[:, None] + face).flatten()],
        Affine(**jitter).theta(len(points) * images, generator),
    )
    split = Split(x, torch.arange(len(points)).repeat_interleave(images), torch.arange(len(x)))
    parts = by_class(split, (rest, classes["val"], classes["test"]), generator)
    return fewshot(
        "glyphs",
        parts,
        ways=ways,
        shots=shots,
        queries=queries,
        training=training,
        tasks=tasks,
        rotations=rotations,
        protocol=f"{rest} / {classes['val']} / {classes['test']} characters, {images} views each",
    )
