"""Checkpoints: written whole or not at all, read without running any code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tl_runner.backbones._tensor_kinds import unfit
from tl_runner.errors import CheckpointError
from tl_runner.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import nn

FORMAT = 1
# where else it ran may differ
COMPARED = ("seed", "selection", "data", "backbone", "method", "train", "teacher")


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one."""
    buffer = io.BytesIO()  # torch.save into a full disk raises no OSError; writing bytes does
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomic(path, buffer.getbuffer())


def load(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a checkpoint that was written under ``config``.

    Raises:
        CheckpointError: it is missing, damaged, not ours, or of a run with other settings.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is not there. Start the run afresh.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every kind for a damaged file
        raise CheckpointError(
            f"{path} is not a readable checkpoint ({type(error).__name__}).\n"
            "  It is cut short, damaged or no checkpoint at all. Start the run afresh."
        ) from error
    if not (
        isinstance(state, dict)
        and type(state.get("format")) is int
        and isinstance(state.get("config", {}), dict)
    ):
        raise CheckpointError(f"{path} is not a checkpoint of tl-run. Start the run afresh.")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {state['format']}, this version reads {FORMAT}. Start the run "
            "afresh."
        )
    if "config" in state:
        try:
            other = list(
                differences(
                    {k: state["config"].get(k) for k in COMPARED},
                    {k: config.get(k) for k in COMPARED},
                )
            )
        except (RuntimeError, ValueError, TypeError) as error:  # tensors, or nested without end
            raise CheckpointError(
                f"{path} is damaged: its settings cannot be compared with the run's. Start the "
                "run afresh."
            ) from error
        if other:
            shown = "\n".join(f"  {line}" for line in other[:8])
            raise CheckpointError(
                f"{path} belongs to a run with other settings:\n{shown}\n  Resume the folder it "
                "came from."
            )
    return state


def weights_of(method: nn.Module, besides: Sequence[str]) -> dict[str, Tensor]:
    """The weights and buffers of a method without those of the networks ``besides``."""
    return {
        name: tensor
        for name, tensor in method.state_dict().items()
        if name.partition(".")[0] not in besides
    }


def put_back(method: nn.Module, weights: Any, besides: Sequence[str]) -> None:
    """What :func:`weights_of` kept; the networks ``besides`` stay as they are.

    Raises:
        TypeError: it is no mapping of names to tensors.
        RuntimeError: there is another set of names, another shape, or a tensor of another kind.
    """
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise TypeError("the weights are no mapping of names to tensors")
    for name, own in method.state_dict().items():
        given = weights.get(name)
        if isinstance(given, Tensor) and (why := unfit(given, own)):
            raise RuntimeError(f"{name} {why[0]}")
    found = method.load_state_dict(weights, strict=False)
    missing = [name for name in found.missing_keys if name.partition(".")[0] not in besides]
    if wrong := [*missing, *found.unexpected_keys]:
        raise RuntimeError(
            f"{len(missing)} weights are missing, {len(found.unexpected_keys)} are not the "
            f"method's: {', '.join(wrong[:3])}"
        )


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Context in which the state of a checkpoint is put back.

    Raises:
        CheckpointError: the state has other names, or tensors of other shapes.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        line = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path} does not fit this run: {line}\n  Start the run afresh."
        ) from error


def differences(old: Any, new: Any, path: str = "") -> Any:
    """Lines that name each setting in which two configs differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*old, *new]):
            yield from differences(
                old.get(key), new.get(key), f"{path}.{key}" if path else str(key)
            )
    elif old != new:
        yield f"{path}: {old} in the checkpoint, {new} now"
