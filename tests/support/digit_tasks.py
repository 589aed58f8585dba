"""A task of two digit sets with the options that most tests want."""

from __future__ import annotations

from tl_runner.data.tasks import digits


def load(root, **changes):
    options = {
        "source": "mnist",
        "target": "usps",
        "root": str(root),
        "download": False,
        "protocol": "full",
    }
    options |= {
        "usps_split": "official",
        "val_fraction": 0.1,
        "target_labels": 0,
        "seed": 0,
        "size": 28,
        "channels": 1,
    }
    return digits.load(**{**options, **changes})


def sizes(task):
    return {name: len(split) for name, split in task.splits.items()}
