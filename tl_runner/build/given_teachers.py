"""Teachers that are trained already: an earlier run, or a file of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tl_runner.backbones import Backbone
from tl_runner.backbones._weights import HEADS, fill, read
from tl_runner.build.backbone import maker
from tl_runner.build.finished_run import FinishedRun
from tl_runner.data.task import Outline
from tl_runner.errors import CheckpointError, ConfigError, human_list
from tl_runner.methods.distillation._teacher import Network, Teacher

Scale = Mapping[str, Sequence[float]] | None


def given(config: Mapping[str, Any], task: Outline) -> tuple[list[Teacher], dict[str, str]]:
    """The teachers that ``method.teacher`` names, and the SHA-256 of their files, by path.

    Raises:
        CheckpointError: one cannot be read, or does not fit.
        ConfigError: one answers about other classes, or other images.
    """
    named = config["method"].get("teacher")
    if not named:
        return [], {}
    found, sums = [], {}
    for name in named if isinstance(named, list) else [named]:
        path = Path(str(name)).expanduser()
        if not exists(path):
            raise CheckpointError(f"method.teacher={name}: there is no such folder or file.")
        teacher, file = of_run(path, config, task) if path.is_dir() else of_file(path, config, task)
        found.append(teacher)
        sums[str(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found, sums


def exists(path: Path) -> bool:
    """True if there is such a path; a text too long for a file's name is none."""
    try:
        return path.exists()
    except OSError:
        return False


def of_run(folder: Path, config: Mapping[str, Any], task: Outline) -> tuple[Teacher, Path]:
    """A teacher from the folder of an earlier run, and the file of its weights."""
    run = FinishedRun(folder)
    choices = run.result.get("choices") or {}
    classes = [str(name) for name in task.classes]
    if unknown := [name for name in classes if name not in run.classes]:
        raise ConfigError(
            [
                f"method.teacher={folder} tells {human_list(run.classes, 5)} apart, and knows "
                f"nothing of {human_list(unknown, 5)}, which this data has."
            ]
        )
    if run.outline.reader != task.reader:
        raise ConfigError(
            [
                f"method.teacher={folder} reads texts otherwise than this run's backbone does: its "
                "tokens or terms are others. Take a student with the teacher's tokenizer and "
                "max_length."
            ]
        )
    if tuple(run.outline.shape) != tuple(task.shape) and not task.reader:
        theirs, ours = ("x".join(map(str, shape)) for shape in (run.outline.shape, task.shape))
        raise ConfigError(
            [
                f"method.teacher={folder} was trained on images of {theirs} (channels, height, "
                f"width), and these are {ours}."
            ]
        )
    encoder = backbone_of(run, task)
    score = run.result.get("score")
    encoder.origin = f"teacher: {folder}, {choices.get('method')} on {choices.get('data')}" + (
        f", {run.result.get('metric')} {score:.4f}" if score else ""
    )
    kept = ("seed", "selection", "uses_target_labels", "protocol", "score")
    record = {"run": str(folder), **choices, **{key: run.result.get(key) for key in kept}}
    warnings = []
    if (
        run.config["seed"] != config["seed"]
        and run.config["data"] == config["data"]
        and config["data"].get("val_fraction")
    ):
        warnings.append(
            f"the teacher {folder} was trained with seed {run.config['seed']}: images that are "
            "held out for validation here may have been among those that it learned from. Give "
            f"seed={run.config['seed']}, or data.val_fraction=0 to both."
        )
    predict: Callable[[Tensor], Tensor] = run.phase.outputs.predict
    if run.outline.scale != task.scale:
        predict = Rescaled(predict, task.scale, run.outline.scale)
    if run.classes != classes:
        predict = Shared(predict, [run.classes.index(name) for name in classes])
        left = [name for name in run.classes if name not in classes]
        if left:
            warnings.append(
                f"the teacher {folder} knows {len(left)} more classes ({human_list(left, 5)}): it "
                "teaches those that this data has, as if there were no others."
            )
    return Teacher(run.method, encoder, predict, record, warnings), run.weights


class Shared(nn.Module):
    """A classifier's logits of some of its classes.

    Args:
        predict: images (B, C, H, W) to logits (B, K).
        columns: which of the K are kept, in the order of those who ask.
    """

    columns: Tensor

    def __init__(self, predict: Callable[[Tensor], Tensor], columns: Sequence[int]):
        super().__init__()
        self.predict = predict
        self.register_buffer("columns", torch.tensor(columns))

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(x).index_select(1, self.columns)


class Rescaled(nn.Module):
    """A classifier of feature vectors that were standardised otherwise than those it is given now.

    Args:
        predict: vectors (B, d, 1, 1) to logits.
        now, then: ``mean`` and ``deviation`` by which they are standardised here, and were for
            ``predict``; None: they are not.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, predict: Callable[[Tensor], Tensor], now: Scale, then: Scale):
        super().__init__()
        self.predict = predict
        given = now or then
        assert given
        zero, one = [0.0] * len(given["mean"]), [1.0] * len(given["mean"])
        (m, d), (m_then, d_then) = (
            (torch.tensor(s["mean"]), torch.tensor(s["deviation"]))
            if s
            else (torch.tensor(zero), torch.tensor(one))
            for s in (now, then)
        )
        self.register_buffer("factor", (d / d_then)[:, None, None])
        self.register_buffer("shift", ((m - m_then) / d_then)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return self.predict(x * self.factor + self.shift)


@torch.no_grad()
def backbone_of(run: FinishedRun, task: Outline) -> Backbone:
    """The one backbone that a run's classifier passes images through."""
    used: list[Backbone] = []
    hooks = [
        module.register_forward_hook(lambda layer, given, out: used.append(layer))
        for module in run.method.modules()
        if isinstance(module, Backbone)
    ]
    run.phase.outputs.predict(torch.zeros(2, *task.shape))
    for hook in hooks:
        hook.remove()
    if len({*used}) != 1:
        raise ConfigError(
            [
                f"method.teacher={run.folder} answers through {len({*used})} backbones together: "
                "name runs of a single one."
            ]
        )
    return used[0]


def of_file(file: Path, config: Mapping[str, Any], task: Outline) -> tuple[Teacher, Path]:
    """The backbone that the config gives the teacher, with a linear head, from a state dict."""
    weights = read(file, "method.teacher")
    encoder = maker({**config["teacher"], "weights": None}, task.shape, "teacher")()
    origin = fill(encoder, weights, str(file), "method.teacher")
    head = nn.Linear(encoder.out_features, len(task.classes))
    head.load_state_dict(head_in(weights, head, file))
    encoder.origin = origin.replace("backbone", "teacher", 1)
    return Teacher(
        Network(encoder, head).eval().requires_grad_(False), encoder, record={"file": str(file)}
    ), file


def head_in(weights: Mapping[str, Tensor], head: nn.Linear, file: Path) -> dict[str, Tensor]:
    """The last layer of a state dict, by its name and shape."""
    found = [
        name.removesuffix(".weight")
        for name, tensor in weights.items()
        if name.endswith(".weight")
        and tensor.shape == head.weight.shape
        and any(part in HEADS for part in name.split("."))
    ]
    if len(found) != 1:
        size = " x ".join(map(str, head.weight.shape))
        others = {
            len(t)
            for name, t in weights.items()
            if name.endswith("head.weight") and t.ndim == 2 and t.shape[1] == head.in_features
        }
        if others - {head.out_features}:
            raise ConfigError(
                [
                    f"method.teacher={file}: its head tells {others.pop()} classes apart, and this "
                    f"data has {head.out_features}. Take one "
                    "of the same classes, or method.teacher=null to train one."
                ]
            )
        raise CheckpointError(
            f"method.teacher={file} has {len(found)} layers of {size} that are named "
            f"{', '.join(HEADS[:-1])} or {HEADS[-1]}: "
            "one is needed, the head, or name a run's folder."
        )
    bias = weights.get(f"{found[0]}.bias")
    return {
        "weight": weights[f"{found[0]}.weight"],
        "bias": torch.zeros(head.out_features) if bias is None else bias,
    }
