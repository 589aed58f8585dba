"""The bare loops of the benchmarks do the arithmetic of the methods that they are measured
against."""

from __future__ import annotations

import copy
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from support.methods import build, loop_of, state
from support.runs import ROOT
from tl_runner import randomness

STEPS = 4


@pytest.fixture(scope="module")
def scripts():
    """(bench_loop, bare, bare._loop), imported as the scripts import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import bare
        import bare._loop
        import bench_loop
    return bench_loop, bare, bare._loop


LOOPS = sorted(path.stem for path in (ROOT / "scripts" / "bare").glob("[!_]*.py"))


def test_every_bare_loop_is_of_a_shipped_method(scripts):
    bench_loop, bare, _ = scripts
    assert LOOPS
    assert bare.names() == LOOPS
    assert set(LOOPS) <= set(bench_loop.shipped())


def test_a_missing_bare_loop_is_said_and_ends_the_benchmark_where_it_was_asked_for(
    scripts, monkeypatch, capsys
):
    bench_loop, bare, _ = scripts
    there = [name for name in LOOPS if name != "mcd"]
    monkeypatch.setattr(bare, "names", lambda: there)
    with pytest.raises(SystemExit, match=r"no bare loop for mcd \(.*scripts/bare\)"):
        bench_loop.main(["--methods", "dann,mcd"])

    measured = []

    def stand_in(name, *rest):
        measured.append(name)
        return "adapt", SimpleNamespace(describe=lambda: "cpu"), {"runner": 1.0, "bare": 1.0}

    monkeypatch.setattr(bench_loop, "measured", stand_in)
    bench_loop.main([])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("Without a bare loop, not measured: ")
    assert "mcd" in first.split(": ")[1].split(", ")
    assert measured == there
    assert last == "1.000"


def test_the_benchmark_refuses_what_the_bare_loops_do_not_follow(scripts):
    bench_loop, *_ = scripts
    with pytest.raises(SystemExit, match=r"written for the methods as shipped"):
        bench_loop.main(["--methods", "adda", "method.hidden=7"])


def test_the_peer_benchmark_says_how_to_install_its_peer(scripts, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setitem(sys.modules, "pytorch_adapt.adapters", None)
    with pytest.raises(SystemExit, match=r"pip install 'pytorch-adapt==.*' 'setuptools<81'"):
        import bench_peers  # noqa: F401


@pytest.mark.parametrize("name", LOOPS)
def test_one_step_of_a_bare_loop_is_one_of_the_runner(name, scripts, monkeypatch):
    bench_loop, bare, tools = scripts
    # a step of plain gradient descent is as big as its gradient, where Adam's hides a factor
    words = (
        "train.optimizer.name=sgd",
        "train.limit.samples=64",
        *bare.overrides(name),
    )
    config, task, method, device = build(f"method={name}", *words)
    number = [p.name for p in method.phases()].index(bench_loop.trained(method).name)
    section = config["method"].get(method.phases()[number].name) or config["method"]["distil"]
    for options in section.values():
        if isinstance(options, dict):
            options["lr"] = 0.1
    twin = copy.deepcopy(method)  # to be trained by hand, from the same weights
    loop = loop_of(method, number, task, device, steps=STEPS)
    monkeypatch.setattr(randomness, "seed_device", lambda *stream: None)
    for networks in (method, twin):
        if begin := networks.phases()[number].hooks.begin:
            begin()
    loop.begin_epoch(0)
    before, batch = state(method), loop.batches[0]

    ground = tools.Ground(twin, config["method"], section, loop.batches.splits, device)
    by_hand = bare.load(name, ground)
    by_hand.each_epoch()
    tools.learn(twin, *by_hand.trains)
    torch.manual_seed(0)
    by_hand.step(**vars(batch), progress=0.5)

    monkeypatch.setattr(type(loop.batches), "__getitem__", lambda batches, step: batch)
    loop.batches.steps, loop.epochs = 1, 2  # so that step 1 is half way
    torch.manual_seed(0)
    loop.run_epoch(1, 0, lambda done: False)

    after, expected = state(method), state(twin)
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert changed
    for key in after:
        torch.testing.assert_close(
            expected[key],
            after[key],
            rtol=1e-5,
            atol=1e-7,
            msg=lambda text, key=key: f"{key}: {text}",
        )


def test_the_gap_of_two_methods_is_that_of_their_predictions(tmp_path, monkeypatch):
    """Made-up runs: one is right on 90 of 100 images, the other on these and 6 more."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import bootstrap_gap

    labels = np.zeros(100, dtype=int)
    for method, right in (("shot", 90), ("target_only", 96)):
        for seed in (0, 1):
            folder = tmp_path / f"{method}{seed}"
            folder.mkdir()
            order = np.random.default_rng(seed).permutation(100)
            said = np.eye(2)[(np.arange(100) >= right).astype(int)]
            arrays = {"probabilities": said[order], "labels": labels, "ids": order}
            np.savez(
                folder / "predictions.npz",
                **{f"target_test/{name}": array for name, array in arrays.items()},
            )
            choices = {"method": method, "data": "mnist2usps"}
            (folder / "result.json").write_text(
                json.dumps({"status": "done", "choices": choices, "seed": seed})
            )
    runs = bootstrap_gap.found(tmp_path, ("shot", "target_only"))["mnist2usps"]
    mean, low, high = bootstrap_gap.gap(
        *([runs[m][s] for s in (0, 1)] for m in ("shot", "target_only"))
    )
    assert mean == pytest.approx(6)
    # pairs differ on 6 images of 100
    assert low == pytest.approx(6 - 1.96 * (100 * 0.06 * 0.94) ** 0.5, abs=1)
    assert high == pytest.approx(6 + 1.96 * (100 * 0.06 * 0.94) ** 0.5, abs=1)
