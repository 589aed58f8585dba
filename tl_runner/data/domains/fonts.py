"""Printed digits, rendered at run time from matplotlib's fonts. No files.

Every seed draws its own jitter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tl_runner import randomness
from tl_runner.data.augment import Affine
from tl_runner.data.domain import Domain
from tl_runner.data.rendered import font_digits
from tl_runner.data.splits import Split


class Fonts(Domain):
    """Printed digits, (N, 1, 28, 28).

    ``per_face`` images of each digit in each face, a tenth of that to test on, each jittered by
    ``jitter``.
    """

    title = "rendered"

    def __init__(self, per_face: int, jitter: Mapping[str, float]):
        self.per_face, self.jitter = per_face, Affine(**jitter)

    def read(self, root: Path, download: bool, seed: int) -> tuple[Split, Split, dict[str, str]]:
        generator = randomness.generator(seed, "fonts")
        train, test = (
            font_digits(n, self.jitter, generator)
            for n in (self.per_face, max(1, self.per_face // 10))
        )
        return train, test, {}
