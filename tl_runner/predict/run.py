"""Predictions of a finished run: its method, weights and preprocessing, without its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tl_runner.build.finished_run import FinishedRun
from tl_runner.data.folder_names import NAMED
from tl_runner.data.folders import below, is_folder
from tl_runner.data.picture_file import FULL, SUFFIXES
from tl_runner.data.pictures import decode
from tl_runner.data.splits import Split
from tl_runner.data.vectors import UNREADABLE, read_vectors
from tl_runner.errors import CheckpointError, UserError
from tl_runner.training import device as devices
from tl_runner.training.evaluator import outputs_of

AT_ONCE = 2**28  # bytes of pictures that are decoded before they are predicted


@dataclass(frozen=True)
class Found:
    """Outputs for some pictures or vectors.

    Attributes:
        files: those that could be read, in order.
        values: float32 (N, K) probabilities of the classes, or (N, 1) numbers, or (N, d) features.
        unreadable: why each of the others could not be.
        features: whether the values are features.
        notes: what the user should know of how the files were read.
    """

    files: list[Path]
    values: np.ndarray
    unreadable: dict[Path, str]
    features: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """Some of the files, as they are before the network.

    Attributes:
        files: those that could be read, in order; of vectors a name for each row.
        x: uint8 (n, C, H, W), or float32 (n, d, 1, 1).
        unreadable: why each of the others could not be.
        wide: how many have more than 8 bits a pixel, which the run's target had none of.
    """

    files: list[Path]
    x: Tensor
    unreadable: dict[Path, str]
    wide: int = 0


class Trained(FinishedRun):
    """A run whose selected weights predict.

    Args:
        folder: of the run.
        device: its name; None is that of the run.

    Raises:
        CheckpointError: it is no folder of a finished run, or a file of it is missing or damaged.
        ConfigError: this machine has no such device.
    """

    def __init__(self, folder: Path, device: str | None = None):
        super().__init__(folder)
        self.device = devices.resolve(
            {**self.config["device"], **({"name": device} if device else {})}
        )
        self.device.place(self.method)
        data = self.config["data"]
        self.vectors = data["name"] == "arrays"
        self.kind = "vectors" if self.vectors else "pictures"
        self.channels, self.size, width = self.outline.shape
        self.fit = data.get("fit", "crop") if self.size == width else "stretch"

    def describe(self) -> str:
        """Description of the run in a few words."""
        choices = self.result.get("choices") or {}
        if self.vectors:
            return (
                f"{choices.get('method')} on {choices.get('data')}, vectors of {self.channels} "
                "numbers"
            )
        kind = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels} channels")
        rest = (
            (f"; not its other tasks ({', '.join(self.phase.outputs.also)})")
            if self.phase.outputs.also
            else ""
        )
        return (
            f"{choices.get('method')} on {choices.get('data')}, "
            f"{self.size}x{self.outline.shape[2]} in {kind}{rest}"
        )

    def pictures(self, paths: Sequence[Path]) -> list[Path]:
        """Files that ``paths`` name, those of a folder in order.

        Raises:
            UserError: one is not there, a folder has no pictures, or the run is of feature vectors
                and a file is no ``.npz``.
        """
        suffixes, kind = (
            ((".npz",), "file of vectors") if self.vectors else (tuple(SUFFIXES), "picture")
        )
        files: list[Path] = []
        for path in paths:
            if is_folder(path):
                lying = below([path])
                # a link that leads nowhere is a file that cannot be read, and is named as such
                every = sorted([*lying.files, *lying.dangling])
                wanted = [f for f in every if f.suffix.lower() in suffixes]
                if not wanted:
                    raise UserError(f"{path}: no {kind} in there ({', '.join(suffixes)}).")
                files += wanted
            elif path.is_file():
                if path.suffix.lower() in ({*SUFFIXES, ".npz"} - {*suffixes}):
                    raise UserError(f"{path}: this run predicts {self.kind}, not such a file.")
                files.append(path)
            else:
                raise UserError(f"{path}: there is no such file or folder.")
        return files

    def predict(self, files: Sequence[Path], workers: int = 0) -> Found:
        """Probabilities of the classes, or numbers, by the predictor of the run's last phase."""
        return self._outputs(files, workers, self.answers)

    def answers(self, x: Tensor) -> Tensor:
        """Probabilities (B, K), or numbers (B, 1), of images (B, C, H, W)."""
        logits = self.phase.outputs.predict(x).float()
        return logits.softmax(1) if self.classes else logits

    def features(self, files: Sequence[Path], workers: int = 0) -> Found:
        """Features that the classifier's head reads.

        Raises:
            UserError: the method names no features.
        """
        if "target" not in self.phase.outputs.embed:
            raise UserError(
                "--features: this method does not say what its features are (Outputs.embed)."
            )
        return replace(
            self._outputs(
                files, workers, lambda x: self.phase.outputs.embed["target"](x).flatten(1), True
            ),
            features=True,
        )

    def _outputs(
        self,
        files: Sequence[Path],
        workers: int,
        network: Callable[[Tensor], Tensor],
        features: bool = False,
    ) -> Found:
        names: list[Path] = []
        unreadable: dict[Path, str] = {}
        values, wide = [], 0
        for chunk in self._vectors(files) if self.vectors else self._decoded(files, workers):
            names += chunk.files
            unreadable |= chunk.unreadable
            wide += chunk.wide
            if chunk.files:
                values.append(self.outputs(network, chunk.x).cpu().numpy())
        if values and not features and values[0].shape[1] != (len(self.classes) or 1):
            raise CheckpointError(
                f"{self.folder}/result.json names {len(self.classes)} classes, and the network "
                f"has {values[0].shape[1]}."
            )
        if not names:
            lines = [f"  {file}: {why}" for file, why in [*unreadable.items()][:NAMED]]
            raise UserError(
                "\n".join(
                    [f"none of the {'files' if self.vectors else 'pictures'} can be read:", *lines]
                )
            )
        notes = []
        if wide:
            (_, white), (_, bright) = FULL[False], FULL[True]
            notes = [
                f"{wide:,} of more than 8 bits a pixel, and the run's target had none: white is "
                f"{white:g} in files of whole numbers, {bright:g} in files of floats"
            ]
        return Found(names, np.concatenate(values), unreadable, notes=tuple(notes))

    def _decoded(self, files: Sequence[Path], workers: int) -> Iterator[Chunk]:
        """Decoded pictures, a part of the files at a time, none of which depends on another.

        Pixels of more than 8 bits are scaled as the run's, or by the type of the file.
        """
        step = max(64, AT_ONCE // prod(self.outline.shape))
        for start in range(0, len(files), step):
            some = [*files[start : start + step]]
            found = decode(
                Path(),
                some,
                size=self.size,
                channels=self.channels,
                fit=self.fit,
                workers=workers,
                cache=None,
                scale=self.outline.pixels or "type",
            )
            good = [i for i in range(len(some)) if i not in found.unreadable]
            yield Chunk(
                [some[i] for i in good],
                found.x[good],
                {some[i]: why for i, why in found.unreadable.items()},
                0 if self.outline.pixels else found.wide,
            )

    def _vectors(self, files: Sequence[Path]) -> Iterator[Chunk]:
        """Vectors of each file's ``x``, scaled as in training."""
        for file in files:
            try:
                x = torch.from_numpy(read_vectors(file))
                if x.shape[1] != self.channels:
                    raise ValueError(f"vectors of {x.shape[1]} numbers, not of {self.channels}")
            except UNREADABLE as error:
                yield Chunk([], torch.empty(0), {file: " ".join(str(error).split())[:200]})
                continue
            if scale := self.outline.scale:
                mean, deviation = (
                    torch.tensor(scale[key], dtype=torch.float64) for key in ("mean", "deviation")
                )
                x = (x - mean) / deviation
            x = x.float()
            rows = [file.with_name(f"{file.name}[{i}]") for i in range(len(x))]
            yield Chunk(rows, x[:, :, None, None], {})

    def outputs(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Outputs of a network for uint8 images (N, C, H, W), or vectors, float32 (N, d, 1, 1)."""
        split = Split(x, None, torch.arange(len(x))).to(
            self.device.torch, self.device.channels_last
        )
        return outputs_of(self.method, network, split, self.device)
