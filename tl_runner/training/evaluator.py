"""Scores of a run on its splits: predictions, their metrics, and the selection rules' scores."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from tl_runner import randomness
from tl_runner.errors import DivergedError
from tl_runner.metrics import classification
from tl_runner.metrics import evaluation_report as report
from tl_runner.metrics import selection_rules as rules
from tl_runner.metrics.estimates import estimates
from tl_runner.metrics.log_odds import log_odds
from tl_runner.metrics.regression import regression
from tl_runner.metrics.selection_scores import importance, reverse
from tl_runner.metrics.selection_scores import unlabelled as selection
from tl_runner.training.batches import is_tokens, lengths, pixels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from tl_runner.data.splits import Split
    from tl_runner.methods.base import Method
    from tl_runner.methods.phases import Phase
    from tl_runner.training.device import Device

CHUNK = 500  # images at once; logits are the same for any number up to rounding
WATCHED = 2000  # target images that are looked at after every epoch, the first of a random order
COMPARED = 300  # images of a split whose features dev and reverse_validation read after every epoch
EMBEDDED = 300  # test images of a domain whose features are kept


class Evaluator:
    """Scores phases on the splits of a run; nothing that it returns is seen by training.

    Args:
        method: on the device already, as ``splits`` are.
        seed: draws the images that are looked at after every epoch.
        oracle: whether the target's test images are all looked at then, since an epoch is chosen by
            them.
        classes: names of a domain's classes, for the notes of its report; of others their numbers.
    """

    def __init__(
        self,
        method: Method,
        splits: Mapping[str, Split],
        device: Device,
        seed: int,
        oracle: bool,
        classes: Mapping[str, Sequence[str]] | None = None,
    ):
        self.method, self.splits, self.device = method, splits, device
        self.classes = classes or {}
        self.numbers = any(
            split.y is not None and split.y.is_floating_point() for split in splits.values()
        )
        some = {
            name: _some(split, seed)
            for name, split in splits.items()
            if name in ("target_train", "target_test")
        }
        if oracle and "target_test" in splits:
            some["target_test"] = splits["target_test"]
        self._watched = {
            name: split
            for name, split in {**splits, **some}.items()
            if name in ("source_val", "target_val", *some)
        }
        # features (N, d) that a phase leaves as they are, by its name and the split's identity
        self._fixed: dict[tuple[str, int], Tensor] = {}
        seen = {**splits, **self._watched}
        self._compared = {
            name: _rows(seen[name], seed, COMPARED) for name in rules.COMPARED if name in splits
        }

    def problems(self, phases: Sequence[Phase], selection: str) -> list[str]:
        """Reasons why these splits cannot be scored by a selection rule."""
        if not self.numbers or selection == "last":
            return []
        return [
            f"selection={selection} goes by classes, and the labels of this data are "
            "numbers. Leave it at last."
        ]

    def after_epoch(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics by split: source validation, the label-free scores of target images, and for the
        record the target's test.

        A score that the images leave undefined is left out.
        """
        logits = {
            name: self._logits(phase, name, split)
            for name, split in self._watched.items()
            if _known_to(phase, name)
        }
        found = {
            name: self._label_free(of)
            if name == "target_train"
            else metrics(of, self._watched[name].y)
            for name, of in logits.items()
        }
        for name, split in self._watched.items():
            found |= self._others(phase, name, split)
        both = {"source", "target"} <= phase.outputs.embed.keys() & {*phase.outputs.domains}
        if both and len(self._compared) == len(rules.COMPARED) and not self.numbers:
            found["source_val"] |= self._between_domains(phase, logits)
        return {
            name: {key: value for key, value in values.items() if math.isfinite(value)}
            for name, values in found.items()
        }

    def _between_domains(self, phase: Phase, logits: Mapping[str, Tensor]) -> dict[str, float]:
        """``dev`` and ``reverse_validation``, by the features of a few images; they read source
        labels alone.

        Images of the source pass through the network that judges them: where one classifier serves
        both domains, DEV needs the features that this classifier sees of either. Reverse validation
        asks whether the two domains' own features agree.
        """
        source, target = phase.outputs.embed["source"], phase.outputs.embed["target"]
        judging = source if phase.outputs.source_predict else target
        z = {
            name: self._features(judging if name != "target_train" else target, name)
            for name in self._compared
        }
        rows, y = self._compared["source_val"], self._watched["source_val"].y
        assert y is not None
        labels, predicted = (
            y[rows].cpu().numpy(),
            logits["source_val"][rows].argmax(1).cpu().numpy(),
        )
        scores: dict[str, float] = {}
        if (
            z["source_train"].shape[1] == z["target_train"].shape[1]
            and min(map(len, (z["source_train"], z["target_train"]))) > 1
        ):
            weights = importance.density_ratio(
                z["source_train"], z["target_train"], z["source_val"]
            )
            scores["dev"] = -importance.dev_risk(weights, (predicted != labels).astype(float))
        own = z["source_val"] if source == judging else self._features(source, "source_val")
        if own.shape[1] == z["target_train"].shape[1]:
            pseudo = logits["target_train"][self._compared["target_train"]].argmax(1).cpu().numpy()
            classes = logits["target_train"].shape[1]
            scores["reverse_validation"] = reverse.reverse_accuracy(
                z["target_train"], pseudo, own, labels, classes
            )
        return scores

    def after_phase(self, phase: Phase) -> dict[str, dict[str, float]]:
        """Metrics by split, on every labelled split that no training reads."""
        names = [
            n
            for n in ("source_val", "source_test", "target_val", "target_test")
            if n in self.splits and _known_to(phase, n)
        ]
        found = {
            name: metrics(self._logits(phase, name, self.splits[name]), self.splits[name].y)
            for name in names
        }
        for name in ("target_val", "target_test"):
            found |= self._others(phase, name, self.splits[name]) if name in self.splits else {}
        return found

    def _others(self, phase: Phase, name: str, split: Split) -> dict[str, dict[str, float]]:
        """Metrics of the further tasks that a phase predicts, by split and task."""
        found = {}
        for task, y in split.also.items():
            if task in phase.outputs.also:
                outputs = outputs_of(self.method, phase.outputs.also[task], split, self.device)
                found[f"{name}_{task}"] = metrics(outputs, y)
        return found

    def at_the_end(self, phase: Phase) -> tuple[dict[str, report.Report], dict[str, np.ndarray]]:
        """(reports by split, predictions) on every split."""
        reports: dict[str, report.Report] = {}
        predictions: dict[str, np.ndarray] = {}
        for name, split in self.splits.items():
            for task, y in split.also.items():
                if task in phase.outputs.also:
                    outputs = outputs_of(self.method, phase.outputs.also[task], split, self.device)
                    self._report(f"{name}_{task}", split, outputs, y, reports, predictions)
            if not _known_to(phase, name):
                continue
            self._report(
                name, split, self._logits(phase, name, split), split.y, reports, predictions
            )
        self._estimate(reports, predictions)
        return reports, predictions

    def _estimate(
        self, reports: dict[str, report.Report], predictions: Mapping[str, np.ndarray]
    ) -> None:
        """Add estimates of the target's accuracy to the report on the images without labels."""
        source, target = (
            predictions.get(f"{name}/probabilities") for name in ("source_val", "target_train")
        )
        if source is None or target is None or source.shape[1] != target.shape[1]:
            return
        values, intervals = estimates(source, predictions["source_val/labels"], target)
        found = reports["target_train"]
        found["metrics"] = {**found["metrics"], **values}
        found["intervals"] = intervals

    def _report(
        self,
        name: str,
        split: Split,
        outputs: Tensor,
        y: Tensor | None,
        reports: dict[str, report.Report],
        predictions: dict[str, np.ndarray],
    ) -> None:
        """The report and the predictions of one task on one split: of classes, or of a number."""
        numbers = self.numbers if y is None else y.is_floating_point()
        kind, values = (
            ("values", outputs[:, 0]) if numbers else ("probabilities", outputs.softmax(1))
        )
        predictions |= {
            f"{name}/{kind}": values.cpu().numpy(),
            f"{name}/ids": split.ids.cpu().numpy(),
        }
        if not numbers:
            predictions[f"{name}/logits"] = outputs.cpu().numpy()
        if y is None:
            scores = self._label_free(outputs)
            finite = {key: value for key, value in scores.items() if math.isfinite(value)}
            reports[name] = {"metrics": finite}
            return
        labels = predictions[f"{name}/labels"] = y.cpu().numpy()
        found = predictions[f"{name}/{kind}"]
        if numbers:
            reports[name] = report.regression(found, labels)
            return
        own = self.classes.get(name.partition("_")[0]) if y is split.y else None
        ranking = log_odds(predictions[f"{name}/logits"])
        reports[name] = report.classification(found, labels, ranking=ranking, names=own)

    def _label_free(self, logits: Tensor) -> dict[str, float]:
        return {} if self.numbers else label_free(logits)

    def embeddings(self, phase: Phase) -> dict[str, np.ndarray]:
        """Features float16 (N, d) and labels (N,) of a few test images of each domain, the same for
        every run; of a target without any, of those that it adapts to.

        Where the phase has a classifier for it, also its probabilities of the target's,
        ``target/said`` (N, K).
        """
        arrays: dict[str, np.ndarray] = {}
        for domain, encode in phase.outputs.embed.items():
            parts = [f"{domain}_test", *(["target_train"] if domain == "target" else [])]
            if own := next((self.splits[name] for name in parts if name in self.splits), None):
                some = _some(own, 0, EMBEDDED)
                features = outputs_of(self.method, encode, some, self.device).flatten(1)
                arrays[domain] = features.half().cpu().numpy()
                if some.y is not None:
                    arrays[f"{domain}/labels"] = some.y.cpu().numpy()
                if domain == "target" and "target" in phase.outputs.domains and not self.numbers:
                    logits = outputs_of(self.method, phase.outputs.predict, some, self.device)
                    arrays["target/said"] = logits.softmax(1).half().cpu().numpy()
        return arrays

    def _logits(self, phase: Phase, name: str, split: Split) -> Tensor:
        of_source = phase.outputs.source_predict if name.startswith("source") else None
        if of_source or not phase.outputs.on_fixed:
            predict = of_source or phase.outputs.predict
            return outputs_of(self.method, predict, split, self.device)
        key = (phase.name, id(split))
        if key not in self._fixed:
            target = phase.outputs.embed["target"]
            self._fixed = {k: z for k, z in self._fixed.items() if k[0] == phase.name}
            self._fixed[key] = outputs_of(self.method, target, split, self.device)
        fixed = replace(split, x=self._fixed[key])
        return outputs_of(self.method, phase.outputs.on_fixed, fixed, self.device, lay_out=False)

    def _features(self, encode: Callable[[Tensor], Tensor], name: str) -> np.ndarray:
        """Float64 (N, d) of the compared images of a split."""
        few = self._watched.get(name, self.splits[name]).take(self._compared[name])
        return outputs_of(self.method, encode, few, self.device).flatten(1).cpu().double().numpy()


def _known_to(phase: Phase, name: str) -> bool:
    """True where a split's classes are those of the phase's classifier."""
    return name.partition("_")[0] in phase.outputs.domains


def _rows(split: Split, seed: int, most: int) -> Tensor:
    order = torch.randperm(len(split), generator=randomness.generator(seed, "watch"))[:most]
    return order.sort().values.to(split.x.device)


def _some(split: Split, seed: int, most: int = WATCHED) -> Split:
    return split.take(_rows(split, seed, most))


@torch.no_grad()
def outputs_of(
    method: Method,
    predict: Callable[[Tensor], Tensor],
    split: Split,
    device: Device,
    lay_out: bool = True,
) -> Tensor:
    """A network's outputs for a whole split, float32 (N, ...), in eval mode, without augmentation.

    Args:
        lay_out: whether the samples are images, and not what a network made of them.

    Raises:
        DivergedError: one is NaN or infinite.
    """
    method.eval()
    rows = []
    order = lengths(split.x).argsort(stable=True) if is_tokens(split.x) else None
    for x in (split.x if order is None else split.x[order]).split(CHUNK):
        device.begin_step()
        x = device.lay_out(pixels(x)) if lay_out else x
        with device.autocast():
            rows.append(predict(x).float().clone())
    logits = torch.cat(rows)
    if order is not None:  # texts of one length go through together
        logits = torch.empty_like(logits).index_copy_(0, order, logits)
    if not logits.isfinite().all():
        raise DivergedError(
            "the network's outputs became NaN or infinite. Try a tenth of the learning rate "
            "(train.optimizer.lr or the phase's own), "
            "or device.precision=fp32."
        )
    return logits


def metrics(outputs: Tensor, y: Tensor | None) -> dict[str, float]:
    """Accuracy (a fraction) and log loss (nats) of logits (N, K), or the errors of numbers (N,
    1)."""
    assert y is not None
    if y.is_floating_point():
        return regression(outputs[:, 0], y)
    return labelled_metrics(outputs, y)


def labelled_metrics(logits: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy (a fraction) and log loss (nats) of logits (N, K) against classes (N,)."""
    return {
        "accuracy": classification.accuracy(logits, y).item(),
        "log_loss": classification.log_loss(logits, y).item(),
    }


def label_free(logits: Tensor) -> dict[str, float]:
    """The label-free scores of a classifier's logits on target images."""
    p = logits.softmax(1)
    return {name: score(p).item() for name, score in selection.SCORES.items()}
