"""One temperature that makes a run's probabilities mean what they say.

Guo, Pleiss, Sun & Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2:
probabilities are softmax(z / T), T > 0, and T minimises the log loss on validation samples (eq. 9).
It changes no prediction.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tl_runner.errors import CheckpointError, UserError
from tl_runner.files import write_atomic
from tl_runner.metrics.evaluation_report import calibration_error

if TYPE_CHECKING:
    from tl_runner.predict.run import Trained

FILE = "calibration.json"  # in the run's folder
SPLITS = ("target_val", "source_val")  # of the first that the run kept
LOWEST, HIGHEST = 0.05, 20.0
FEW = 200  # samples below which a calibration error over 15 bins is mostly noise


def fit(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature of logits (N, K) and classes (N,), between 0.05 and 20.

    The log loss is convex in 1 / T, so that what is found is the least.
    """
    from scipy.optimize import minimize_scalar

    z = logits.astype(np.float64)

    def loss(beta: float) -> float:
        return float(-np.take_along_axis(log_softmax(beta * z), labels[:, None], 1).mean())

    ends = (1 / HIGHEST, 1 / LOWEST)
    found = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-6})
    best = min((*ends, float(found.x)), key=loss)
    return 1 / best


def log_softmax(z: np.ndarray) -> np.ndarray:
    """Logarithms of the probabilities of logits (N, K)."""
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def calibrate(trained: Trained) -> str:
    """Fit a temperature on the run's own validation samples and keep it in the run's folder.

    Returns what was found, in words.

    Raises:
        UserError: the run predicts numbers, or kept no validation samples.
    """
    if not trained.classes:
        raise UserError("--calibrate: this run predicts numbers, which have no probabilities.")
    split, logits, labels = validation(trained.folder, len(trained.classes))
    temperature = fit(logits, labels)
    before, after = (np.exp(log_softmax(logits / t)) for t in (1.0, temperature))
    errors = [calibration_error(p, labels) for p in (before, after)]
    content = {
        "temperature": temperature,
        "split": split,
        "samples": len(labels),
        "ece": {"before": errors[0], "after": errors[1]},
    }
    file = trained.folder / FILE
    try:
        write_atomic(file, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}.") from error
    of = " (of the source: the run had no labelled target images to validate on)"
    said = (
        f"temperature {temperature:.3f}, fitted on {len(labels):,} samples of "
        f"{split}{of if split == 'source_val' else ''}: expected calibration error there "
        f"{100 * errors[0]:.1f} % before, {100 * errors[1]:.1f} % after. {file} keeps it, and "
        "predictions use it from now on; without that file they are as before."
    )
    if len(labels) < FEW or errors[1] > errors[0]:
        worse = " and the error there did not fall" if errors[1] > errors[0] else ""
        said += (
            f" Do not trust it far: {len(labels):,} samples are few{worse}."
            if len(labels) < FEW
            else f" Do not trust it far: the log loss fell{worse}."
        )
    if temperature <= LOWEST * 1.01 or temperature >= HIGHEST * 0.99:
        said += " It lies at the end of its range: there are too few samples, or all are right."
    return said


def validation(folder: Path, classes: int) -> tuple[str, np.ndarray, np.ndarray]:
    """(split, logits (N, K), labels (N,)) of the validation samples that a run kept.

    Raises:
        UserError: it kept none.
    """
    file = folder / "predictions.npz"
    try:
        with np.load(file, allow_pickle=False) as content:
            held = {
                s: (content[f"{s}/logits"], content[f"{s}/labels"])
                for s in SPLITS
                if {f"{s}/logits", f"{s}/labels"} <= {*content.files}
            }
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(f"--calibrate: {file} cannot be read ({type(error).__name__}).") from error
    for split, (logits, labels) in held.items():
        fits = logits.ndim == 2 and logits.shape[1] == classes and labels.shape == logits.shape[:1]
        kinds = logits.dtype.kind == "f" and labels.dtype.kind in "iu"
        known = len(labels) and labels.min() >= 0 and labels.max() < classes
        if fits and kinds and known and np.isfinite(logits).all():
            return split, logits, labels.astype(np.int64)
    raise UserError(
        f"--calibrate: {folder} kept no predictions of validation samples. Train with "
        "data.val_fraction above 0; of a target with labels these are its own, else the source's."
    )


def temperature_of(folder: Path) -> float:
    """The temperature that a run's folder keeps; 1 where it was not calibrated.

    Raises:
        CheckpointError: its file is damaged.
    """
    file = folder / FILE
    if not file.exists():
        return 1.0
    try:
        value = json.loads(file.read_text(encoding="utf-8"))["temperature"]
        if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
            raise ValueError
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{file} is damaged: it holds no temperature above 0. Take it away, or calibrate again."
        ) from error
    return value
