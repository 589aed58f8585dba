"""Passes of predictions over the splits, and what can be said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from tl_runner import randomness
from tl_runner.data.tasks import Split
from tl_runner.errors import DivergedError
from tl_runner.methods.base import Method
from tl_runner.metrics import classification, report, selection
from tl_runner.training.batches import pixels
from tl_runner.training.device import Device

CHUNK = 500  # images at once; logits are the same for any number up to rounding
WATCHED = 2000  # target images that are looked at after every epoch, the first of a random order
EMBEDDED = 300  # test images of a domain whose features are kept


class Evaluator:
    """Looks at the splits on behalf of a run; nothing that it returns is seen by training.

    Args:
        method: on the device already, as ``splits`` are.
        seed: draws the images that are looked at after every epoch.
        oracle: whether the target's test images are all looked at then, since an epoch is chosen by them.
    """

    def __init__(self, method: Method, splits: Mapping[str, Split], device: Device, seed: int, oracle: bool):
        self.method, self.splits, self.device = method, splits, device
        some = {name: _some(split, seed) for name, split in splits.items() if name in ("target_train", "target_test")}
        if oracle and "target_test" in splits:
            some["target_test"] = splits["target_test"]
        self._watched = {name: split for name, split in {**splits, **some}.items() if name in ("source_val", *some)}

    def after_epoch(self, predict: Callable[[Tensor], Tensor]) -> dict[str, dict[str, float]]:
        """Metrics by split: source validation, the label-free scores of target images, and for the record the target's test."""
        return {
            name: label_free(self._logits(predict, split)) if name == "target_train" else self._labelled(predict, split)
            for name, split in self._watched.items()
        }

    def after_phase(self, predict: Callable[[Tensor], Tensor]) -> dict[str, dict[str, float]]:
        """Metrics by split, on every labelled split that no training reads."""
        names = ("source_val", "source_test", "target_test")
        return {name: self._labelled(predict, self.splits[name]) for name in names if name in self.splits}

    def at_the_end(self, predict: Callable[[Tensor], Tensor]) -> tuple[dict[str, report.Report], dict[str, np.ndarray]]:
        """(reports by split, predictions) on every split."""
        reports: dict[str, report.Report] = {}
        predictions: dict[str, np.ndarray] = {}
        for name, split in self.splits.items():
            logits = self._logits(predict, split)
            predictions[f"{name}/probabilities"] = logits.softmax(1).cpu().numpy()
            predictions[f"{name}/ids"] = split.ids.cpu().numpy()
            if split.y is None:
                reports[name] = {"metrics": label_free(logits)}
            else:
                labels = predictions[f"{name}/labels"] = split.y.cpu().numpy()
                reports[name] = report.classification(predictions[f"{name}/probabilities"], labels)
        return reports, predictions

    def embeddings(self, embed: Mapping[str, Callable[[Tensor], Tensor]]) -> dict[str, np.ndarray]:
        """Features float16 (N, d) and labels int64 (N,) of a few test images of each domain, the same for every run."""
        arrays: dict[str, np.ndarray] = {}
        for domain, encode in embed.items():
            if f"{domain}_test" in self.splits:
                some = _some(self.splits[f"{domain}_test"], 0, EMBEDDED)
                assert some.y is not None
                arrays[domain] = outputs_of(self.method, encode, some, self.device).flatten(1).half().cpu().numpy()
                arrays[f"{domain}/labels"] = some.y.cpu().numpy()
        return arrays

    def _logits(self, predict: Callable[[Tensor], Tensor], split: Split) -> Tensor:
        return outputs_of(self.method, predict, split, self.device)

    def _labelled(self, predict: Callable[[Tensor], Tensor], split: Split) -> dict[str, float]:
        assert split.y is not None
        return labelled_metrics(self._logits(predict, split), split.y)


def _some(split: Split, seed: int, most: int = WATCHED) -> Split:
    order = torch.randperm(len(split), generator=randomness.generator(seed, "watch"))[:most]
    return split.take(order.sort().values.to(split.x.device))


@torch.no_grad()
def outputs_of(method: Method, predict: Callable[[Tensor], Tensor], split: Split, device: Device) -> Tensor:
    """What a network makes of a whole split, float32 (N, ...), in eval mode, without augmentation.

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
