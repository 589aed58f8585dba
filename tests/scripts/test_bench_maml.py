"""The variants of the MAML benchmark do the arithmetic of ours: the same weights after a
meta-step."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from support.runs import ROOT

WORDS = (
    "device=cpu",
    "backbone.filters=4",
    "data.images=4",
    "method.task_batching=vmap",
    "method.meta.optimizer.name=sgd",
    "method.meta.optimizer.lr=0.001",
    "method.meta.optimizer.momentum=0.0",
)


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        import bench_maml
    return bench_maml


@pytest.mark.parametrize("name", ["loop over tasks", "higher", "torchopt"])
def test_a_reference_computes_what_ours_does(bench, name, monkeypatch):
    if name in bench.PEERS and not find_spec(name):
        pytest.skip(f"{name} is not installed")
    made = []
    monkeypatch.setattr(
        bench, "plain", lambda *given, plain=bench.plain: made.append(plain(*given)) or made[-1]
    )
    monkeypatch.setattr(
        torch.optim, "Adam", lambda parameters, lr, fused: torch.optim.SGD(parameters, lr=lr)
    )
    monkeypatch.setattr(bench, "PEERS", () if name == "loop over tasks" else (name,))
    monkeypatch.setattr(bench, "REFERENCES", {name: bench.REFERENCES[name]})
    loop, variants, plan = bench.made("5w1s2", WORDS, 1)
    assert plan == "vmap of 32"
    before = {k: p.clone() for k, p in loop.method.named_parameters()}
    for variant in variants.values():
        variant()
    ours = {k: p.detach() - before[k] for k, p in loop.method.named_parameters()}
    theirs = [
        p.detach() - old for p, old in zip(made[0].parameters(), before.values(), strict=True)
    ]
    for (key, a), b in zip(ours.items(), theirs, strict=True):
        assert a.abs().max() > 0, key
        torch.testing.assert_close(
            a, b, rtol=2e-3, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}"
        )
