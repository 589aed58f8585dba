"""One pass of predictions over a split, and what can be said of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tl_runner.data.tasks import Split
from tl_runner.errors import DivergedError
from tl_runner.methods.base import Method
from tl_runner.metrics import classification, selection
from tl_runner.training.batches import pixels
from tl_runner.training.device import Device

CHUNK = 500  # images at once; logits are the same for any number up to rounding
WATCHED = 2000  # target images that are looked at after every epoch, the first of a random order


@torch.no_grad()
def logits_of(method: Method, predict: Callable[[Tensor], Tensor], split: Split, device: Device) -> Tensor:
    """Logits float32 (N, K) of a whole split, networks in eval mode, no augmentation.

    Raises:
        DivergedError: one is NaN or infinite.
    """
    method.eval()
    rows = []
    for x in split.x.split(CHUNK):
        device.begin_step()
        x = pixels(x)
        if device.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with device.autocast():
            rows.append(predict(x).float().clone())
    logits = torch.cat(rows)
    if not logits.isfinite().all():
        raise DivergedError(
            "the network's outputs became NaN or infinite. Try a tenth of the learning rate (train.optimizer.lr or the phase's own), "
            "or device.precision=fp32."
        )
    return logits


def labelled_metrics(logits: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy (a fraction) and log loss (nats)."""
    return {
        "accuracy": classification.accuracy(logits, y).item(),
        "log_loss": classification.log_loss(logits, y).item(),
    }


def label_free(logits: Tensor) -> dict[str, float]:
    """The label-free scores of a classifier's logits on target images."""
    p = logits.softmax(1)
    return {name: score(p).item() for name, score in selection.SCORES.items()}
