"""Checkpoints: what is no state of a run is refused, and nothing is converted on the way back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tl_runner.errors import CheckpointError
from tl_runner.training import checkpoints

CONFIG = {"seed": 0, "data": {"name": "folder"}, "train": {"optimizer": {"betas": [0.9, 0.999]}}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": torch.ones(3)}, "is not a checkpoint of tl-run"),
        ({"format": None}, "is not a checkpoint of tl-run"),
        ({"format": 99}, "has format 99"),
        ({"config": 5}, "is not a checkpoint of tl-run"),
        ({"config": CONFIG | {"seed": 1}}, "seed: 1 in the checkpoint, 0 now"),
        ({"config": CONFIG | {"data": None}}, "data: None in the checkpoint"),
        ({"config": CONFIG | {"seed": torch.ones(3)}}, "its settings cannot be compared"),
    ],
)
def test_what_is_no_checkpoint_of_this_run(tmp_path, changed, said):
    checkpoints.save(tmp_path / "best.pt", {"config": CONFIG})
    assert checkpoints.load(tmp_path / "best.pt", CONFIG)["config"] == CONFIG
    checkpoints.save(tmp_path / "best.pt", {"config": CONFIG} | changed)
    with pytest.raises(CheckpointError, match=said):
        checkpoints.load(tmp_path / "best.pt", CONFIG)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"weight": torch.ones(2, 3).long(), "bias": torch.ones(2)}, "weight is int64, and the"),
        ({"weight": torch.ones(2, 3) + 0j, "bias": torch.ones(2)}, "weight is complex64, and the"),
        ({"weight": torch.ones(2, 3, device="meta"), "bias": torch.ones(2)}, "no values"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "size mismatch for weight"),
        ({"weight": torch.ones(2, 3)}, "1 weights are missing"),
        ({"weight": torch.ones(2, 3), "bias": 5}, "bias"),
        ({1: torch.ones(2, 3)}, "no mapping of names to tensors"),
        (None, "no mapping of names to tensors"),
    ],
)
def test_weights_that_are_not_the_methods(tmp_path, weights, said):
    layer = nn.Linear(3, 2)
    with pytest.raises((RuntimeError, TypeError), match=said):
        checkpoints.put_back(layer, weights, ())
    with (
        pytest.raises(CheckpointError, match="does not fit this run"),
        checkpoints.fitting(tmp_path),
    ):
        checkpoints.put_back(layer, weights, ())
    half = {"weight": torch.ones(2, 3).bfloat16(), "bias": torch.ones(2).double()}
    checkpoints.put_back(layer, half, ())
    assert layer.weight.dtype == torch.float32
    assert (layer.weight == 1).all()
