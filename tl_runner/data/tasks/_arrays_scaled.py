"""Feature vectors to mean 0 and deviation 1, and to the single precision that networks take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from tl_runner.data.splits import Split
from tl_runner.data.vectors import Arrays
from tl_runner.errors import DataError

Parts = dict[str, Split]


def scaled(parts: Mapping[str, Parts]) -> tuple[dict[str, Parts], dict[str, list[float]]]:
    """Each feature to mean 0 and deviation 1 by the training part of the first domain.

    In double precision: a Unix time in seconds has no digits left in single. A feature that is
    the same everywhere there is only moved.
    """
    reference = next(iter(parts.values()))["train"].x
    # squares of 1e200 and of 1e-200 have no number; a power of two changes no digit
    unit = torch.from_numpy(np.ldexp(1.0, np.frexp(reference.abs().amax(0).numpy())[1] - 1))
    mean = (reference / unit).mean(0) * unit
    deviation = (reference / unit).std(0, correction=0) * unit
    constant = reference.amax(0) == reference.amin(0)
    deviation = torch.where(constant | (deviation == 0), 1.0, deviation)
    scale = {"mean": mean.flatten().tolist(), "deviation": deviation.flatten().tolist()}
    return {
        d: {p: replace(s, x=(s.x - mean) / deviation) for p, s in named.items()}
        for d, named in parts.items()
    }, scale


def in_single_precision(
    parts: Mapping[str, Parts],
    found: Mapping[str, Arrays],
    scale: Mapping[str, Sequence[float]] | None,
) -> dict[str, Parts]:
    """The parts with vectors float32, which networks take.

    Raises:
        DataError: a number is beyond it.
    """
    single = {
        d: {p: replace(s, x=s.x.float()) for p, s in named.items()} for d, named in parts.items()
    }
    for domain, named in single.items():
        arrays = found[domain]
        for split in named.values():
            beyond = (~split.x.isfinite()).flatten(1).nonzero()
            if not len(beyond):
                continue
            place, column = beyond[0].tolist()
            row = int(split.ids[place])
            name, x = ("x", arrays.x)
            if arrays.test and row >= len(x):
                name, x, row = "x_test", arrays.test[0], row - len(x)
            cure = (
                f"standardised (mean {scale['mean'][column]:.3g}, deviation "
                f"{scale['deviation'][column]:.3g} of the {next(iter(parts))}) it is beyond single "
                f"precision. Mend or remove the row, or rescale feature {column} in all files, "
                "such as by its logarithm."
                if scale
                else f"beyond single precision. Set data.standardise=true, or rescale feature "
                f"{column} in all files."
            )
            raise DataError(
                f"data.{domain}_file={arrays.file}: {name}[{row}, {column}] is "
                f"{x[row, column]:.3g}, {cure}"
            )
    return single
