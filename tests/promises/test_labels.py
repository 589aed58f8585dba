"""Target labels change nothing: permuted on disk, the weights are the same to the bit."""

from __future__ import annotations

import bz2
import json
import shutil

import pytest
import torch

from support.covers import cases
from support.runs import TINY, results
from tl_runner.metrics.selection_rules import RULES

WHERE = {
    "source_val": ("source_val", "accuracy"),
    "oracle": ("target_test", "accuracy"),
    "dev": ("source_val", "dev"),
    "reverse_validation": ("source_val", "reverse_validation"),
}
WORDS = (
    *(w for w in TINY if not w.startswith(("data.per_face", "train.limit"))),
    "data=mnist2usps",
    "data.protocol=sampled",
)


def permuted(as_is, folder):
    """The data root again, with the labels of the USPS training images shuffled in the file."""
    (folder / "USPS").mkdir(parents=True)
    (folder / "MNIST").symlink_to(as_is / "MNIST")
    shutil.copy(as_is / "USPS" / "usps.t.bz2", folder / "USPS")
    lines = bz2.decompress((as_is / "USPS" / "usps.bz2").read_bytes()).decode().splitlines()
    labels = [line.split(" ", 1)[0] for line in lines]
    order = torch.randperm(len(lines), generator=torch.Generator().manual_seed(3)).tolist()
    shuffled = [
        f"{labels[j]} {line.split(' ', 1)[1]}" for j, line in zip(order, lines, strict=True)
    ]
    assert sum(a != b for a, b in zip(lines, shuffled, strict=True)) > len(lines) / 2
    (folder / "USPS" / "usps.bz2").write_bytes(bz2.compress("\n".join(shuffled).encode(), 1))
    return folder


@pytest.fixture(
    params=[
        "made_up_root",
        pytest.param("real_root", marks=[pytest.mark.slow, pytest.mark.real_data]),
    ]
)
def root_of_files(request):
    return request.getfixturevalue(request.param)


def test_permuted_target_labels_change_no_weight(root_of_files, tl_run, tmp_path):
    roots = {"as is": root_of_files, "permuted": permuted(root_of_files, tmp_path / "data")}
    for name, root in roots.items():
        ended = tl_run(*WORDS, f"data.root={root}", f"hydra.run.dir={tmp_path / name}")
        assert ended.code == 0, ended.text
    one, other = (
        torch.load(tmp_path / n / "checkpoints" / "last.pt", weights_only=True)["method"]
        for n in ("as is", "permuted")
    )
    for key, tensor in one.items():
        assert torch.equal(tensor, other[key]), key
    first, second = results(tmp_path)
    # its labels were not permuted
    assert first["metrics"]["target_test"] == second["metrics"]["target_test"]
    assert first["uses_target_labels"] is False


@pytest.mark.parametrize(
    "rule",
    cases(
        [rule for rule in RULES if rule not in ("target_val", "meta_val")],
        ("dev", "reverse_validation", "oracle"),
    ),
)
def test_selection_rules(tl_run, tmp_path, rule):
    ended = tl_run(
        *TINY, "train.epochs=3", f"selection={rule}", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["selection"] == rule
    assert result["uses_target_labels"] is (rule == "oracle")
    assert ("oracle" in ended.err) is (rule == "oracle")
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    watched = [
        r for r in rows if r["phase"] == "adapt" and r["split"] == "target_test" and "step" in r
    ]
    # on record for every rule, so that its regret can be told; only an oracle goes by it
    assert len(watched) == 3
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert best["selection"] == rule
    if rule != "last":
        split, key = WHERE.get(rule, ("target_train", rule))
        scores = [
            r[key]
            for r in rows
            if r["phase"] == "adapt" and r["split"] == split and "step" in r and key in r
        ]
        assert result["selected_epoch"] == scores.index(max(scores)) + 1
        assert result["rules"][rule]["epoch"] == result["selected_epoch"]


def test_held_out_labelled_target_images_choose_where_there_are_some(tl_run, tmp_path):
    words = [w for w in TINY if not w.startswith("data.")]
    wanted = (
        "method=finetune",
        "data=split_digits",
        "data.per_face=2",
        "train.epochs=4",
        "selection=target_val",
    )
    ended = tl_run(*words, *wanted, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["uses_target_labels"] is True
    rows = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    scores = [
        r["accuracy"]
        for r in rows
        if r["phase"] == "finetune" and r["split"] == "target_val" and "step" in r
    ]
    assert result["selected_epoch"] == scores.index(max(scores)) + 1
    held_out, seen = (result["sizes"][name] for name in ("target_val", "target_labelled"))
    assert f"saw {held_out + seen:,} target labels" in ended.err
    ended = tl_run(*TINY, "selection=target_val")
    assert ended.code == 2
    assert "needs target_val, which this data has not" in ended.err
    assert "Set data.target_labels" in ended.err
