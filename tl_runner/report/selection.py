"""What each selection rule would have chosen in a run that recorded its target test accuracy every epoch, and what that cost."""

from __future__ import annotations

from tl_runner.report.runs import Run, number
from tl_runner.report.statistics import mean
from tl_runner.report.table import Row

# rule: (split, name) of the score that it maximises over the epochs of the last phase
RULES = {
    "last": ("", ""),
    "source_val": ("source_val", "accuracy"),
    "entropy": ("target_train", "entropy"),
    "im": ("target_train", "im"),
    "bnm": ("target_train", "bnm"),
}
TRUTH = ("target_test", "accuracy")


def regrets(run: Run) -> dict[str, float]:
    """By rule, how much target test accuracy it loses against the best epoch of the last phase; ``best`` is that accuracy.

    A rule takes the first epoch of the highest score, as training does. Empty where an epoch's accuracy was not recorded; a
    rule whose score was not is left out.
    """
    last = run.epochs[-1].get("phase") if run.epochs else None
    rows = [row for row in run.epochs if row.get("phase") == last and isinstance(row.get("epoch"), int)]
    epochs = sorted({row["epoch"] for row in rows})

    def scores(split: str, name: str) -> dict[int, float]:
        found = {row["epoch"]: value for row in rows if row.get("split") == split and (value := number(row.get(name))) is not None}
        return found if len(found) == len(epochs) else {}

    truth = scores(*TRUTH)
    if not truth:
        return {}
    best = max(truth.values())
    chosen = {"last": epochs[-1]}
    for rule, (split, name) in RULES.items():
        if rule != "last" and (by_epoch := scores(split, name)):
            chosen[rule] = max(epochs, key=by_epoch.__getitem__)
    return {"best": best, **{rule: best - truth[chosen[rule]] for rule in RULES if rule in chosen}}


def regret_table(rows: list[Row]) -> list[tuple[Row, int, dict[str, float]]]:
    """For each row with recorded epochs: the number of runs, and the means of :func:`regrets` over them."""
    table = []
    for row in rows:
        each = [found for run in row.runs if run.status == "done" and (found := regrets(run))]
        if each:
            shared = [name for name in ("best", *RULES) if all(name in found for found in each)]
            table.append((row, len(each), {name: mean([found[name] for found in each]) or 0.0 for name in shared}))
    return table
