"""A finished run taken up again to predict: its method, weights and preprocessing, without its data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from tl_runner.build import method_of
from tl_runner.data import arrays
from tl_runner.data.folder import NAMED, hidden
from tl_runner.data.pictures import SUFFIXES, decode
from tl_runner.data.tasks import Outline, Split
from tl_runner.errors import CheckpointError, UserError
from tl_runner.training import checkpoints
from tl_runner.training import device as devices
from tl_runner.training.evaluation import outputs_of

AT_ONCE = 2**28  # bytes of pictures that are decoded before they are predicted


@dataclass(frozen=True)
class Found:
    """What was made of some pictures.

    Attributes:
        files: those that could be read, in order.
        values: float32 (N, K) probabilities of the classes, or (N, d) features.
        unreadable: why each of the others could not be.
        features: whether the values are features.
    """

    files: list[Path]
    values: np.ndarray
    unreadable: dict[Path, str]
    features: bool = False


class Trained:
    """A run whose selected weights predict.

    Args:
        folder: of the run.
        device: its name; None is that of the run.

    Raises:
        CheckpointError: it is no folder of a finished run, or a file of it is missing or damaged.
        ConfigError: this machine has no such device.
    """

    def __init__(self, folder: Path, device: str | None = None):
        self.folder = folder
        self.result = self._result()
        self.config = self._config()
        self.classes = [str(name) for name in self.result["classes"]]
        self.outline = self._outline()
        self.device = devices.resolve({**self.config["device"], **({"name": device} if device else {})})
        self._refuse_code_of_its_own()
        backbone = {**self.config["backbone"], "weights": None} if "weights" in self.config["backbone"] else self.config["backbone"]
        self.method = method_of({**self.config, "backbone": backbone}, self.outline)
        weights = checkpoints.load(folder / "checkpoints" / "best.pt", self.config)
        try:
            self.method.load_state_dict(weights["method"])
        except (KeyError, RuntimeError, TypeError, AttributeError) as error:
            line = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{folder}/checkpoints/best.pt does not fit the run's own method: {line}") from error
        self.device.place(self.method.eval().requires_grad_(False))
        self.phase = self.method.phases()[-1]
        data = self.config["data"]
        self.vectors = data["name"] == "arrays"
        self.kind = "vectors" if self.vectors else "pictures"
        self.channels, self.size, width = self.outline.shape
        self.fit = data.get("fit", "crop") if self.size == width else "stretch"

    def _result(self) -> dict[str, Any]:
        file = self.folder / "result.json"
        if not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: there is no such folder.")
        if not file.is_file():
            inside = sorted(f.parent.name for f in self.folder.glob("*/result.json"))[:3]
            which = f" It holds runs: {', '.join(inside)}, ..." if inside else ""
            raise CheckpointError(f"{self.folder} is no run's folder: it has no result.json. Name the folder that a run left.{which}")
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            status, classes = found["status"], found.get("classes")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file} is damaged ({type(error).__name__}).") from error
        if status != "done":
            how = "It failed; its run.log says why" if status == "failed" else f"Finish it: tl-run resume={self.folder}"
            raise CheckpointError(f"{self.folder} is a run that is not done ({status}). {how}.")
        if not classes or "outline" not in found:
            raise CheckpointError(f"{file} does not say what its images and classes are: an earlier version wrote it. Run it again.")
        return found

    def _config(self) -> dict[str, Any]:
        file = self.folder / "config.yaml"
        try:
            found: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
            if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
                raise ValueError("it has no seed")
            if bad := [group for group in ("data", "backbone", "method", "device") if not isinstance(found.get(group), dict)]:
                raise ValueError(f"{bad[0]} should be keys and values")
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise CheckpointError(f"{file} cannot be read as a run's config ({' '.join(str(error).split())[:200]}).") from error
        return found

    def _refuse_code_of_its_own(self) -> None:
        """A method or backbone with a dotted name is a user's own installed module, never one that came with the run's folder."""
        for group in ("method", "backbone"):
            name = str(self.config[group].get("module", self.config[group].get("name", "")))
            if "." in name:
                spec = find_spec(name.partition(".")[0])
                places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
                if any(Path(place).resolve().is_relative_to(self.folder.resolve()) for place in places if place):
                    raise CheckpointError(f"{group}.name={name} of this run is code in its own folder, which is not run. Install it first.")

    def _outline(self) -> Outline:
        try:
            said = self.result["outline"]
            channels, high, wide = (int(n) for n in said["shape"])
            return Outline(**{**said, "shape": (channels, high, wide), "sources": tuple(said["sources"])})
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(f"{self.folder}/result.json is damaged: outline ({error}).") from error

    def describe(self) -> str:
        """The run, in a few words."""
        choices = self.result.get("choices") or {}
        if self.vectors:
            return f"{choices.get('method')} on {choices.get('data')}, vectors of {self.channels} numbers"
        kind = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels} channels")
        rest = f"; not its other tasks ({', '.join(self.phase.also)})" if self.phase.also else ""
        return f"{choices.get('method')} on {choices.get('data')}, {self.size}x{self.outline.shape[2]} in {kind}{rest}"

    def pictures(self, paths: Sequence[Path]) -> list[Path]:
        """The files that ``paths`` name, those of a folder in order.

        Raises:
            UserError: one is not there, a folder has no pictures, or the run is of feature vectors and a file is no ``.npz``.
        """
        suffixes, kind = ((".npz",), "file of vectors") if self.vectors else (SUFFIXES, "picture")
        files: list[Path] = []
        for path in paths:
            if path.is_dir():
                every = sorted(f for f in path.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
                inside = [f for f in every if not hidden(f.relative_to(path))]
                if not inside:
                    raise UserError(f"{path}: no {kind} in there ({', '.join(suffixes)}).")
                files += inside
            elif path.is_file():
                files.append(path)
            else:
                raise UserError(f"{path}: there is no such file or folder.")
        return files

    def predict(self, files: Sequence[Path], workers: int = 0) -> Found:
        """Probabilities of the classes, by the classifier of the run's last phase."""
        return self._outputs(files, workers, lambda x: self.phase.predict(x).float().softmax(1))

    def features(self, files: Sequence[Path], workers: int = 0) -> Found:
        """What the classifier's head sees.

        Raises:
            UserError: the method names no features.
        """
        if "target" not in self.phase.embed:
            raise UserError("--features: this method does not say what its features are (Phase.embed).")
        return replace(self._outputs(files, workers, lambda x: self.phase.embed["target"](x).flatten(1), True), features=True)

    def _outputs(self, files: Sequence[Path], workers: int, network: Callable[[Tensor], Tensor], features: bool = False) -> Found:
        names: list[Path] = []
        unreadable: dict[Path, str] = {}
        values = []
        for read, x, bad in self._vectors(files) if self.vectors else self._decoded(files, workers):
            names += read
            unreadable |= bad
            if read:
                values.append(self.outputs(network, x).cpu().numpy())
        if values and not features and values[0].shape[1] != len(self.classes):
            raise CheckpointError(f"{self.folder}/result.json names {len(self.classes)} classes, and the network has {values[0].shape[1]}.")
        if not names:
            lines = [f"  {file}: {why}" for file, why in [*unreadable.items()][:NAMED]]
            raise UserError("\n".join([f"none of the {'files' if self.vectors else 'pictures'} can be read:", *lines]))
        return Found(names, np.concatenate(values), unreadable)

    def _decoded(self, files: Sequence[Path], workers: int) -> Iterator[tuple[list[Path], Tensor, dict[Path, str]]]:
        """(files, uint8 (n, C, H, W), why others could not be read), a part of the files at a time."""
        step = max(64, AT_ONCE // prod(self.outline.shape))
        for start in range(0, len(files), step):
            some = [*files[start : start + step]]
            found = decode(Path(), some, size=self.size, channels=self.channels, fit=self.fit, workers=workers, cache=None)
            good = [i for i in range(len(some)) if i not in found.unreadable]
            yield [some[i] for i in good], found.x[good], {some[i]: why for i, why in found.unreadable.items()}

    def _vectors(self, files: Sequence[Path]) -> Iterator[tuple[list[Path], Tensor, dict[Path, str]]]:
        """(a name for each row, float32 (n, d, 1, 1), why the file could not be read) of each file's ``x``, scaled as in training."""
        for file in files:
            try:
                x = torch.from_numpy(arrays.read_vectors(file))
                if x.shape[1] != self.channels:
                    raise ValueError(f"vectors of {x.shape[1]} numbers, not of {self.channels}")
            except arrays.UNREADABLE as error:
                yield [], torch.empty(0), {file: " ".join(str(error).split())[:200]}
                continue
            if scale := self.outline.scale:
                x = (x - torch.tensor(scale["mean"])) / torch.tensor(scale["deviation"])
            yield [file.with_name(f"{file.name}[{i}]") for i in range(len(x))], x[:, :, None, None], {}

    def outputs(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What a network makes of uint8 images (N, C, H, W), or of vectors, float32 (N, d, 1, 1)."""
        split = Split(x, None, torch.arange(len(x))).to(self.device.torch, self.device.channels_last)
        return outputs_of(self.method, network, split, self.device)
