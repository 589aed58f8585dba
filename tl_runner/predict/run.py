"""Predictions of a finished run: its method, weights and preprocessing, without its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tl_runner.backbones._folding import fold_backbones
from tl_runner.build.finished_run import FinishedRun
from tl_runner.data.folder_names import NAMED
from tl_runner.data.splits import Split
from tl_runner.errors import CheckpointError, UserError
from tl_runner.predict.calibration import temperature_of
from tl_runner.predict.inputs import Inputs, Pictures, Texts, Vectors, wide_note
from tl_runner.training import device as devices
from tl_runner.training.batches import pixels
from tl_runner.training.evaluator import outputs_of

WORTH_FOLDING = 64  # pictures, for which folding batch norms saves what it costs
EXAMPLES = 2  # that it is tried on


@dataclass(frozen=True)
class Found:
    """Outputs for some pictures or vectors.

    Attributes:
        files: those that could be read, in order.
        values: float32 (N, K) probabilities of the classes, or (N, 1) numbers, or (N, d) features.
        unreadable: why each of the others could not be.
        features: whether the values are features.
        notes: what the user should know of how the files were read.
        labels: the true class of each, or number, as text, empty where none is known; none at all
            where nobody asked.
        logits: float32 (N, K), what the probabilities are of; None: there are none.
    """

    files: list[Path]
    values: np.ndarray
    unreadable: dict[Path, str]
    features: bool = False
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    logits: np.ndarray | None = None


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
        self.temperature = temperature_of(folder)
        self.inputs = self._inputs()
        self.kind = self.inputs.kind
        self._folded = False

    def _inputs(self) -> Inputs:
        """What reads files as the run read its own."""
        data = self.config["data"]
        if self.reader:
            return Texts(data, self.reader)
        if data["name"] == "arrays":
            return Vectors(self.outline)
        _, high, wide = self.outline.shape
        return Pictures(self.outline, data.get("fit", "crop") if high == wide else "stretch")

    def describe(self) -> str:
        """Description of the run in a few words."""
        choices = self.result.get("choices") or {}
        also = self.phase.outputs.also
        rest = f"; not its other tasks ({', '.join(also)})" if also else ""
        if self.temperature != 1:
            rest += f", calibrated: temperature {self.temperature:.3g}"
        return f"{choices.get('method')} on {choices.get('data')}, {self.inputs.describe()}{rest}"

    def named(self, paths: Sequence[Path]) -> list[Path]:
        """Files that ``paths`` name, those of a folder in order.

        Raises:
            UserError: one is not there or holds another kind of thing, or a folder has no such
                files.
        """
        return self.inputs.named(paths)

    def predict(self, files: Sequence[Path], workers: int = 0) -> Found:
        """Probabilities of the classes, or numbers, by the predictor of the run's last phase."""
        found = self._outputs(files, workers, self.answers)
        if not self.classes:
            return found
        logits = found.values
        return replace(found, values=torch.from_numpy(logits).softmax(1).numpy(), logits=logits)

    def answers(self, x: Tensor) -> Tensor:
        """Logits (B, K), calibrated where the run was, or numbers (B, 1), of images
        (B, C, H, W)."""
        found = self.phase.outputs.predict(x).float()
        return found / self.temperature if self.classes else found

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
        for chunk in self.inputs.chunks(files, workers):
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
            raise UserError("\n".join([f"none of the {self.inputs.many} can be read:", *lines]))
        notes = [wide_note(wide)] if wide else []
        return Found(names, np.concatenate(values), unreadable, notes=tuple(notes))

    def outputs(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """Outputs of a network for what :class:`~tl_runner.predict.inputs.Chunk` holds."""
        split = Split(x, None, torch.arange(len(x))).to(
            self.device.torch, self.device.channels_last
        )
        if not self._folded and self.device.torch.type == "cpu" and len(x) >= WORTH_FOLDING:
            few = self.device.lay_out(pixels(split.x[:EXAMPLES]))
            fold_backbones(self.method.eval(), network, few)
            self._folded = True
        with torch.inference_mode():
            return outputs_of(self.method, network, split, self.device)
