"""A finished run taken up again: its method and weights, without its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tl_runner import plugins
from tl_runner.backbones._frozen import FrozenNetwork, put_under
from tl_runner.backbones._texts import FOLDER as READER
from tl_runner.backbones._texts import Reader
from tl_runner.build._run_files import read_config, read_outline, read_result
from tl_runner.build.backbone import frozen_network
from tl_runner.build.method import method_of
from tl_runner.build.texts import reader_of
from tl_runner.errors import CheckpointError, UserError
from tl_runner.training import checkpoints

FROZEN_WEIGHTS = Path("checkpoints") / "frozen.safetensors"


class FinishedRun:
    """A run by its folder, with the weights of its selection rule, on the CPU, in eval mode.

    Attributes:
        result, config, classes, outline: read from its files.
        reader: of texts, or None.
        method, phase: built anew with the run's weights, and the last of the phases.

    Raises:
        CheckpointError: it is no folder of a finished run, a file of it is missing or damaged, or
            it predicts nothing without a support set.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.result = read_result(folder)
        self.config = read_config(folder)
        self.classes: list[str] = self.result["classes"]
        self.outline = read_outline(folder, self.result, self.config)
        plugins.refuse_code_of(folder, self.config)
        backbone = self.config["backbone"]
        if "weights" in backbone:
            backbone = {**backbone, "weights": None}
        self.reader: Reader | None = None
        if (kept := folder / READER).is_dir():
            # an encoder's own folder may be elsewhere by now
            backbone = {**backbone, **({"name": str(kept)} if "module" in backbone else {})}
            self.reader = self._reader(backbone, kept)
        config = {**self.config, "backbone": backbone}
        with self._built():
            self.method = method_of(config, self.outline, deployed=True)
        self.weights = folder / "checkpoints" / "best.pt"
        state = checkpoints.load(self.weights, self.config)
        try:
            checkpoints.put_back(self.method, state.get("method"), self.method.scaffold)
        except (RuntimeError, TypeError) as error:
            line = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.weights} does not fit the run's own method: {line}"
            ) from error
        if frozen := self._frozen(backbone):
            put_under(self.method, frozen)
            assert self.outline.inputs
            self.outline = replace(self.outline, shape=self.outline.inputs, scale=None)
        self.method.eval().requires_grad_(False)
        with self._built():
            self.phase = self.method.phases()[-1]
        if self.phase.outputs.curve:
            raise CheckpointError(
                f"{folder} learned few-shot tasks: what it says of a sample depends on a task's "
                "support set, so it neither labels samples nor teaches. "
                f"Its backbone can be taken up: backbone.weights={folder}."
            )

    @contextmanager
    def _built(self) -> Iterator[None]:
        """Context in which networks are built of the run's config.

        Raises:
            CheckpointError: it is the config of none.
        """
        file = self.folder / "config.yaml"
        try:
            yield
        except UserError as error:  # speaks of keys as if the user had just given them
            raise CheckpointError(f"{file}: {error}") from error
        except (
            *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError),
            *(RuntimeError, TypeError, ValueError),
        ) as error:
            line = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{file} is not the config of a network ({type(error).__name__}: {line})."
            ) from error

    def _reader(self, backbone: Mapping[str, Any], kept: Path) -> Reader | None:
        """What reads texts as the run did."""
        with self._built():
            reader = reader_of(backbone)
        try:
            if reader:
                reader.take(kept)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            line = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{kept}, which reads texts as the run did, is damaged ({line})."
            ) from error
        return reader

    def _frozen(self, backbone: Mapping[str, Any]) -> FrozenNetwork | None:
        """The network that made the features that the run learned from."""
        if not self.outline.inputs or not self.outline.scale:
            return None
        file = self.folder / FROZEN_WEIGHTS
        with self._built():
            frozen = frozen_network(backbone, self.outline.inputs, shared=False)
            assert frozen is not None
        try:
            checkpoints.put_back(frozen.network, load_file(file), ())
            frozen.mean.copy_(torch.tensor(self.outline.scale["mean"]))
            frozen.deviation.copy_(torch.tensor(self.outline.scale["deviation"]))
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            line = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{file}, the network that the run learned on, cannot be read ({line})."
            ) from error
        return frozen
