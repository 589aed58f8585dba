"""track=tensorboard: the numbers of metrics.jsonl as event files, once, also after a resume."""

from __future__ import annotations

import json

import pytest

from support.kills import drive
from support.runs import TINY

pytest.importorskip("tensorboard", reason="the extra tl-run[track] is not installed")


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_the_same_numbers(tl_run, tmp_path):
    ended = tl_run(*TINY, "track=tensorboard", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    found = scalars(tmp_path / "run")
    expected = [
        (r["step"], pytest.approx(r["accuracy"]))
        for r in rows
        if (r["phase"], r["split"]) == ("adapt", "source_val") and "step" in r
    ]
    assert found["adapt/source_val/accuracy"] == expected
    assert len(expected) == 2
    assert len(found["end of adapt/target_test/accuracy"]) == 1


def test_resumed_without_doubles(tl_run, tmp_path):
    folder = tmp_path / "run"
    assert drive("step", 13, folder, "track=tensorboard") < 0
    assert tl_run(f"resume={folder}").code == 0
    found = scalars(folder)
    for tag, points in found.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps)), tag
    assert [step for step, _ in found["pretrain/source_val/accuracy"]] == [4, 8]
