"""First weights of a backbone from a file: a state dict, or a run of ours."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tl_runner.backbones._base import Backbone
from tl_runner.errors import CheckpointError

# under which others and we keep the weights
WRAPPED = ("method", "state_dict", "model_state_dict", "model", "net")
# of a backbone in a larger network
PREFIXES = ("target_encoder.", "encoder.", "module.", "backbone.", "model.", "")
LEAST = 0.5  # of a backbone's weights that a file must have


def read(path: Path, key: str = "backbone.weights") -> dict[str, Tensor]:
    """State dict of a file, or of a run's folder.

    Of a run, the weights that its selection rule chose. ``key`` is the setting that names it.

    Raises:
        CheckpointError: it cannot be read, or holds no weights.
    """
    best, last = path / "checkpoints" / "best.pt", path / "checkpoints" / "last.pt"
    file = (best if best.exists() else last) if path.is_dir() else path
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        line = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{key}={path} cannot be read as weights ({line}).") from error
    for wrap in WRAPPED:
        if isinstance(content, Mapping) and isinstance(content.get(wrap), Mapping):
            content = content[wrap]
    found = (
        {k: v for k, v in content.items() if isinstance(v, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not found:
        raise CheckpointError(
            f"{key}={path} holds no weights: a state dict or a run's folder is wanted."
        )
    return found


def fill(
    backbone: Backbone, given: Mapping[str, Tensor], where: str, key: str = "backbone.weights"
) -> str:
    """Put weights into a backbone by name and shape, and return in words what matched.

    Raises:
        CheckpointError: less than half of the backbone's weights are there.
    """
    own = backbone.state_dict()
    # one model in it, whose own names a file may have
    wraps = len({k.partition(".")[0] for k in own}) == 1

    def matching(prefix: str) -> dict[str, Tensor]:
        stripped = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        named = {
            k: stripped.get(k, stripped.get(k.partition(".")[2]) if wraps else None) for k in own
        }
        return {k: v for k, v in named.items() if v is not None and v.shape == own[k].shape}

    found = max(
        (matching(prefix) for prefix in PREFIXES), key=lambda m: sum(v.numel() for v in m.values())
    )
    total, matched = (sum(v.numel() for v in part.values()) for part in (own, found))
    if matched < LEAST * total:
        missing = ", ".join([k for k in own if k not in found][:3])
        whose, cure = "this backbone", "Is it of another backbone?"
        if key == "method.teacher":
            whose = "the teacher"
            cure = (
                "Name its network with backbone@teacher= and teacher.*, or a run's folder, "
                "which brings its own."
            )
        raise CheckpointError(
            f"{key}={where} fits {matched / total:.0%} of {whose}'s weights by name and shape "
            f"(not {missing}, ...; "
            f"the file has {', '.join([*given][:3])}, ...). {cure}"
        )
    backbone.load_state_dict(found, strict=False)
    fresh = [k for k in own if k not in found]
    more = f"; fresh: {', '.join(fresh[:5])}{', ...' if len(fresh) > 5 else ''}" if fresh else ""
    return f"backbone: {len(found)} of {len(own)} tensors from {where}{more}"
