"""Run folders as finished runs leave them, with numbers that nobody measured, and ``tl-report``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from tl_runner.cli import report as cli


def made_up_run(
    folder: Path,
    method: str,
    seed: int,
    accuracy: float | None,
    overrides: tuple[str, ...] = (),
    config: dict | None = None,
    data: str = "fonts2digits",
    pretrain: float | None = None,
    **more,
) -> Path:
    """A finished run; ``accuracy`` None is a failed one. ``more`` goes into ``result.json``."""
    choices = {"method": method, "data": data, "backbone": "lenet", "device": "cpu"}
    result = {
        "status": "failed",
        "error": "ValueError: made up",
        "seed": seed,
        "choices": choices,
        "metrics": {},
        "score": None,
    }
    if accuracy is not None:
        metrics = {
            "target_test": {"accuracy": accuracy, "log_loss": 1 - accuracy, "f1_macro": None}
        }
        result |= {
            "status": "done",
            "error": None,
            "metrics": metrics,
            "score": accuracy,
            "metric": "accuracy",
        }
    if pretrain is not None:
        result["phases"] = [
            {"name": "pretrain", "metrics": {"target_test": {"accuracy": pretrain}}},
            {"name": "adapt"},
        ]
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "overrides.yaml").write_text(
        yaml.safe_dump([f"method={method}", f"data={data}", f"seed={seed}", *overrides])
    )
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"seed": seed, "train": {"epochs": 10, "lr": 1e-4}, **(config or {})})
    )
    (folder / "result.json").write_text(json.dumps(result | more))
    return folder


def with_evidence(
    folder: Path, accuracy: float, seed: int, epochs: int = 15, images: int = 600, classes: int = 10
) -> Path:
    """Adds epochs, predictions, embeddings and an environment that fit a run of that target test
    accuracy."""
    draw = np.random.default_rng(seed)
    rows = []
    for phase, start, end in (("pretrain", 0.1, 0.45), ("adapt", 0.45, accuracy)):
        for epoch in range(1, epochs + 1):
            reached = end - (end - start) * np.exp(-4 * epoch / epochs) + draw.normal(0, 0.01)
            row = {"phase": phase, "epoch": epoch, "step": 100 * epoch, "wall_s": 0.5 * epoch}
            rows.append(
                {
                    **row,
                    "split": "source_train",
                    "cross_entropy": 2 * np.exp(-3 * epoch / epochs) + draw.normal(0, 0.02),
                }
            )
            if phase == "adapt":
                rows[-1] |= {
                    "split": "source_train+target_train",
                    "discriminator_accuracy": 0.9 - 0.3 * epoch / epochs,
                }
                rows.append(
                    {**row, "split": "target_test", "accuracy": float(np.clip(reached, 0, 1))}
                )
            scales = {
                "entropy": 1,
                "im": 2,
                "snd": -1,
                "bnm": 0.9,
                "dev": 0.5,
                "reverse_validation": 1,
            }
            scores = {
                name: reached * scale + draw.normal(0, 0.05) for name, scale in scales.items()
            }
            of_source = {name: scores.pop(name) for name in ("dev", "reverse_validation")}
            validated = float(np.clip(1 - 0.5 * np.exp(-3 * epoch / epochs), 0, 1))
            rows.append({**row, "split": "source_val", "accuracy": validated, **of_source})
            rows.append({**row, "split": "target_train", **scores})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    labels = draw.integers(0, classes, images)
    said = np.where(draw.random(images) < accuracy, labels, draw.integers(0, classes, images))
    logits = draw.normal(size=(images, classes)) + 4.0 * np.eye(classes)[said] * draw.uniform(
        0.3, 1.2, (images, 1)
    )
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.savez_compressed(
        folder / "predictions.npz",
        **{
            "target_test/probabilities": p.astype("float32"),
            "target_test/labels": labels,
            "target_test/ids": np.arange(images),
        },
    )
    centres = draw.normal(size=(classes, 64)) * 2
    clouds = {}
    for when, shift in (("before", 3.0), ("after", 3.0 * (1 - accuracy))):
        for domain, moved in (("source", 0.0), ("target", shift)):
            clouds[f"{when}/{domain}"] = (
                centres[labels] + draw.normal(size=(images, 64)) + moved
            ).astype("float16")
    np.savez_compressed(
        folder / "embeddings.npz", **clouds, **{"source/labels": labels, "target/labels": labels}
    )
    environment = {
        "tl_run": "0.1.0",
        "git": {"sha": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
        "command": [
            "tl-run",
            "-m",
            "method=source_only,dan,adda",
            "data=fonts2digits,mnist2usps",
            "seed=0,1,2,3,4",
        ],
        "python": "3.11.7",
        "platform": "Linux-6.18.44-x86_64-with-glibc2.36",
        "packages": {
            "torch": "2.15.0",
            "torchvision": "0.29.2",
            "hydra-core": "1.3.8",
            "numpy": "2.4.6",
            "scikit-learn": "1.9.1",
        },
        "device": {
            "name": "cpu",
            "is": "AMD EPYC, 1 threads",
            "precision": "fp32",
            "channels_last": True,
        },
        "data_sha256": {
            "MNIST/raw/train-images-idx3-ubyte": (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
            )
        },
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    return folder


def report(capsys, *words) -> tuple[int, str, str]:
    """Exit code, output and messages of the command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(map(str, words)))
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err
