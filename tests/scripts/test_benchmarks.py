"""The bare loops of the benchmarks do the arithmetic of the methods that they are measured
against."""

from __future__ import annotations

import copy
import json
import sys

import numpy as np
import pytest
import torch

from support.methods import build, loop_of, state
from support.runs import ROOT
from tl_runner import randomness

STEPS = 4


@pytest.fixture(scope="module")
def scripts():
    """(bare_loops, bench_loop, bare), imported as the scripts import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import bare
        import bare_loops
        import bench_loop
    return bare_loops, bench_loop, bare


# scripts/test_bench_maml.py, methods/fewshot/test_meta_gradients.py
FEWSHOT = {"maml", "fomaml", "anil", "reptile", "meta_sgd", "protonet", "pretrain_all"}
ON_FEATURES = {
    path.stem
    for path in (ROOT / "conf" / "method").glob("[!_]*.yaml")
    if "_on_features" in path.read_text()
} | {"jda"}
SHIPPED = sorted(
    {path.stem for path in (ROOT / "conf" / "method").glob("[!_]*.yaml")} - FEWSHOT - ON_FEATURES
)


def test_every_shipped_method_has_a_bare_loop(scripts):
    bare_loops, bench_loop, _ = scripts
    assert bench_loop.shipped() == SHIPPED
    assert sorted(bare_loops.BARE) == SHIPPED


def test_a_method_without_a_bare_loop_ends_the_benchmark(scripts, monkeypatch):
    bare_loops, bench_loop, _ = scripts
    monkeypatch.delitem(bare_loops.BARE, "mcd")
    with pytest.raises(SystemExit, match=r"No bare loop for mcd: .*BARE"):
        bench_loop.main([])
    with pytest.raises(SystemExit, match=r"written for the methods as shipped"):
        bench_loop.main(["--methods", "adda", "method.hidden=7"])


def test_the_peer_benchmark_says_how_to_install_its_peer(scripts, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.setitem(sys.modules, "pytorch_adapt.adapters", None)
    with pytest.raises(SystemExit, match=r"pip install 'pytorch-adapt==.*' 'setuptools<81'"):
        import bench_peers  # noqa: F401


@pytest.mark.parametrize("name", SHIPPED)
def test_one_step_of_a_bare_loop_is_one_of_the_runner(name, scripts, monkeypatch):
    bare_loops, bench_loop, tools = scripts
    # a step of plain gradient descent is as big as its gradient, where Adam's hides a factor
    words = (
        "train.optimizer.name=sgd",
        "train.limit.samples=64",
        *bench_loop.ALWAYS_TRAINING.get(name, ()),
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
    bare = bare_loops.BARE[name](ground)
    bare.each_epoch()
    tools.learn(twin, *bare.trains)
    torch.manual_seed(0)
    bare.step(**vars(batch), progress=0.5)

    monkeypatch.setattr(type(loop.batches), "__getitem__", lambda batches, step: batch)
    loop.batches.steps, loop.epochs = 1, 2  # so that step 1 is half way
    torch.manual_seed(0)
    loop.run_epoch(1, 0, lambda done: False)

    after, by_hand = state(method), state(twin)
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert changed
    for key in after:
        torch.testing.assert_close(
            by_hand[key],
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
