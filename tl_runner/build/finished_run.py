"""A finished run taken up again: its method and weights, without its data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from safetensors import SafetensorError
from safetensors.torch import load_file

from tl_runner import plugins
from tl_runner.backbones._frozen import FrozenNetwork, put_under
from tl_runner.build.backbone import frozen_network
from tl_runner.build.method import method_of
from tl_runner.data.task import Outline
from tl_runner.errors import CheckpointError
from tl_runner.training import checkpoints

FROZEN_WEIGHTS = Path("checkpoints") / "frozen.safetensors"


class FinishedRun:
    """A run by its folder, with the weights of its selection rule, on the CPU, in eval mode.

    Attributes:
        result, config, classes, outline: read from its files.
        method, phase: built anew with the run's weights, and the last of the phases.

    Raises:
        CheckpointError: it is no folder of a finished run, a file of it is missing or damaged, or
            it predicts nothing without a support set.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.result = self._result()
        self.config = self._config()
        self.classes = [str(name) for name in self.result["classes"]]
        self.outline = self._outline()
        plugins.refuse_code_of(folder, self.config)
        backbone = self.config["backbone"]
        if "weights" in backbone:
            backbone = {**backbone, "weights": None}
        self.method = method_of({**self.config, "backbone": backbone}, self.outline, deployed=True)
        self.weights = folder / "checkpoints" / "best.pt"
        state = checkpoints.load(self.weights, self.config)
        try:
            checkpoints.put_back(self.method, state["method"], self.method.scaffold)
        except (KeyError, RuntimeError, TypeError, AttributeError) as error:
            line = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.weights} does not fit the run's own method: {line}"
            ) from error
        if frozen := self._frozen(backbone):
            put_under(self.method, frozen)
            assert self.outline.inputs
            self.outline = replace(self.outline, shape=self.outline.inputs, scale=None)
        self.method.eval().requires_grad_(False)
        self.phase = self.method.phases()[-1]
        if self.phase.outputs.curve:
            raise CheckpointError(
                f"{folder} learned few-shot tasks: what it says of a picture depends on a task's "
                "support set, so it neither labels pictures nor teaches. "
                f"Its backbone can be taken up: backbone.weights={folder}."
            )

    def _frozen(self, backbone: Mapping[str, Any]) -> FrozenNetwork | None:
        """The network that made the features that the run learned from."""
        if not self.outline.inputs or not self.outline.scale:
            return None
        file = self.folder / FROZEN_WEIGHTS
        try:
            frozen = frozen_network(backbone, self.outline.inputs)
            assert frozen is not None
            frozen.network.load_state_dict(load_file(file))
            frozen.mean.copy_(torch.tensor(self.outline.scale["mean"]))
            frozen.deviation.copy_(torch.tensor(self.outline.scale["deviation"]))
        except (
            *(OSError, SafetensorError, AssertionError),
            *(RuntimeError, KeyError, TypeError, ValueError),
        ) as error:
            line = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{file}, the network that the run learned on, cannot be read ({line})."
            ) from error
        return frozen

    def _result(self) -> dict[str, Any]:
        file = self.folder / "result.json"
        if not self.folder.is_dir():
            raise CheckpointError(f"{self.folder}: there is no such folder.")
        if not file.is_file():
            inside = sorted(f.parent.name for f in self.folder.glob("*/result.json"))[:3]
            which = f" It holds runs: {', '.join(inside)}, ..." if inside else ""
            raise CheckpointError(
                f"{self.folder} is no run's folder: it has no result.json. Name the folder that a "
                f"run left.{which}"
            )
        try:
            found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            status, classes = found["status"], found.get("classes")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{file} is damaged ({type(error).__name__}).") from error
        if status != "done":
            how = (
                "It failed; its run.log says why"
                if status == "failed"
                else f"Finish it: tl-run resume={self.folder}"
            )
            raise CheckpointError(f"{self.folder} is a run that is not done ({status}). {how}.")
        if classes is None or "outline" not in found:
            raise CheckpointError(
                f"{file} does not say what its images and classes are: an earlier version wrote "
                "it. Run it again."
            )
        return found

    def _config(self) -> dict[str, Any]:
        file = self.folder / "config.yaml"
        try:
            found: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
            if not isinstance(found, dict) or not isinstance(found.get("seed"), int):
                raise ValueError("it has no seed")
            if bad := [
                group
                for group in ("data", "backbone", "method", "device")
                if not isinstance(found.get(group), dict)
            ]:
                raise ValueError(f"{bad[0]} should be keys and values")
        except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
            raise CheckpointError(
                f"{file} cannot be read as a run's config ({' '.join(str(error).split())[:200]})."
            ) from error
        return found

    def _outline(self) -> Outline:
        try:
            outline = dict(self.result["outline"])
            channels, high, wide = (int(n) for n in outline["shape"])
            tuples = {key: tuple(outline[key]) for key in ("sources", "splits") if key in outline}
            if outline.get("inputs"):
                tuples["inputs"] = tuple(int(n) for n in outline["inputs"])
            return Outline(**{**outline, "shape": (channels, high, wide), **tuples})
        except (TypeError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{self.folder}/result.json is damaged: outline ({error})."
            ) from error
