"""A run's curves: which value belongs to which panel, and epochs that count on."""

from __future__ import annotations

import json

import numpy as np
from matplotlib.figure import Figure

from tl_runner.record.curves import History, by_epoch, curves, draw
from tl_runner.report import evidence
from tl_runner.report.runs import Run


def rows():
    """Two phases of a fine-tuning run: 2 and 3 epochs."""
    found = []
    for phase, epochs in (("pretrain", 2), ("finetune", 3)):
        for epoch in range(1, epochs + 1):
            at = {"phase": phase, "epoch": epoch, "step": 10 * epoch}
            found += [
                at | {"split": "target_labelled", "cross_entropy": 1 / epoch, "lr": 0.1},
                at | {"split": "target_val", "accuracy": 0.375, "log_loss": 1.0},
                at | {"split": "target_test", "accuracy": 0.5, "log_loss": 1.0},
                at | {"split": "target_train", "im": 0.1 * epoch, "accuracy_ci95": None},
            ]
    return [*found, {"phase": "finetune", "epoch": 3, "split": "target_test", "accuracy": 0.9}]


def test_validation_is_no_training_and_every_split_has_its_panel():
    history = History.of(rows())
    assert history.ends == {"pretrain": 2, "finetune": 5}
    assert history.training() == {
        "cross_entropy": [(1, 1), (2, 1 / 2), (3, 1), (4, 1 / 2), (5, 1 / 3)]
    }
    found = history.evaluations()
    assert {*found} == {"target_val", "target_test"}
    assert found["target_val"] == ("accuracy", [(n, 0.375) for n in range(1, 6)])
    assert found["target_test"][1][-1] == (5, 0.5)  # a report at the end is no epoch
    (scores,) = history.scores().values()
    assert (min(y for _, y in scores), max(y for _, y in scores)) == (0, 1)


def test_a_phase_that_trains_on_the_target_alone_keeps_its_loss_in_training():
    at = {"phase": "fit", "epoch": 1, "step": 1, "split": "target_train"}
    history = History.of([at | {"reconstruction": 2.0, "lr": 0.1}, at | {"im": 1.0}])
    assert history.training() == {"reconstruction": [(1, 2.0)]}


def test_curves_of_numbers_and_of_nothing(tmp_path):
    numbers = [r | {"mse": r.pop("accuracy")} if "accuracy" in r else r for r in rows()]
    assert {name for name, _ in History.of(numbers).evaluations().values()} == {"mse"}
    curves(rows(), tmp_path / "curves.png", "made up")
    assert (tmp_path / "curves.png").stat().st_size > 5000
    curves([], tmp_path / "none.png", "made up")
    assert not (tmp_path / "none.png").exists()


def test_an_axis_ends_where_its_quantity_does_and_one_epoch_is_a_value():
    axis = Figure().add_subplot()
    draw(axis, 0, np.array([1.0, 2.0]), np.array([0.98, 1.0]), np.array([0.1, 0.1]), percent=True)
    by_epoch(axis, percent=True)
    assert axis.get_ylim()[1] <= 101
    assert not axis.texts
    draw(axis, 1, np.array([1.0]), np.array([0.625]), percent=True)
    assert [text.get_text() for text in axis.texts] == ["62.5"]


def test_the_page_counts_no_validation_among_losses_either(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("\n".join(json.dumps(row) for row in rows()))
    run = Run(tmp_path, "done", "", 0, {}, [], {}, {})
    assert {*evidence.losses([run], "finetune")} == {"cross_entropy"}
