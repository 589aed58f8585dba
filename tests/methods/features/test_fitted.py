"""Runs of the methods on features: their phases, what they leave behind, labels that they may not
see, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.covers import cases
from support.methods import build, loop_of, same, state
from support.runs import TINY, results
from support.shipped import method_class
from tl_runner.cli import help
from tl_runner.config.paths import CONF_DIR
from tl_runner.data.splits import Split
from tl_runner.data.tasks import digits
from tl_runner.methods.features import _components as components
from tl_runner.methods.features._base import Domains, OnFeatures
from tl_runner.predict.run import Trained

METHODS = [
    name
    for name, _ in help.choices("method", CONF_DIR)
    if issubclass(kind := method_class(name), OnFeatures) and kind.classes
]
RAW = (*TINY, "backbone=raw")


def made(name, *words):
    """(method, task, the loop of its phase fit) of a tiny task."""
    _, task, method, device = build(
        f"method={name}", "backbone=raw", "train.limit.samples=150", *words
    )
    return method, task, loop_of(method, 1, task, device)


def test_all_of_them_are_tested():
    assert len(METHODS) >= 12
    assert {"no_transfer", "tca", "kmm", "tradaboost", "ot_da", "scl"} <= {*METHODS}


@pytest.mark.parametrize("name", cases(METHODS, ("tca", "kmm", "tradaboost", "coral")))
def test_a_run_says_what_it_predicts_and_says_it_again(name, tl_run, tmp_path):
    ended = tl_run(*RAW, f"method={name}", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert [phase["name"] for phase in result["phases"]] == ["features", "fit"]
    assert result["metrics"]["target_test"]["accuracy"] > 0.15
    assert " on features" in result["protocol"]
    trained = Trained(tmp_path / "run")
    with np.load(tmp_path / "run" / "predictions.npz") as kept:
        ids, p = kept["target_test/ids"], kept["target_test/probabilities"]
    _, task, _, _ = build(f"method={name}", "backbone=raw")
    split = task.splits["target_test"]
    assert split.ids.tolist() == ids.tolist()
    said = trained.outputs(lambda x: trained.phase.outputs.predict(x).float().softmax(1), split.x)
    np.testing.assert_array_equal(said.numpy(), p)


@pytest.mark.parametrize("name", cases(METHODS, ("scl", "tca", "kliep", "tradaboost")))
def test_the_same_seed_fits_the_same_to_the_bit(name):
    kept = []
    for _ in range(2):
        method, _, loop = made(name)
        loop.fit()
        kept.append(state(method.fitted))
    assert kept[0].keys() == kept[1].keys()
    assert same(*kept)


def test_a_run_killed_in_its_fit_goes_on_to_the_same(tl_run, tmp_path, monkeypatch):
    words = (*TINY, "method=tca", "backbone=lenet", "train.batch_size=16")
    assert tl_run(*words, f"hydra.run.dir={tmp_path / 'whole'}").code == 0
    with monkeypatch.context() as patch:
        patch.setattr(
            OnFeatures, "fit_all", lambda self, passes: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert tl_run(*words, f"hydra.run.dir={tmp_path / 'cut'}").code == 130
    assert tl_run(f"resume={tmp_path / 'cut'}").code == 0
    whole, cut = (
        torch.load(tmp_path / run / "checkpoints" / "last.pt", weights_only=True)["method"]
        for run in ("whole", "cut")
    )
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


@pytest.mark.parametrize("name", [n for n in METHODS if n != "tradaboost"])
def test_labels_that_a_fit_may_not_see_are_not_there(name):
    method, task, _ = made(name)
    assert task.splits["target_train"].y is None
    assert {split for phase in method.phases() for split in phase.reads.values()} == {
        "source_train",
        "target_train",
    }


@pytest.mark.parametrize("name", cases(METHODS, ("pca", "jda", "ot_da", "kmm", "tradaboost")))
def test_labelled_target_images_are_learned_from(name):
    found = []
    for k in (1, 8):
        method, _, loop = made(name, f"data.target_labels={k}")
        assert method.phases()[1].reads["labelled"] == "target_labelled"
        loop.fit()
        found.append(state(method.fitted))
    assert not same(*({k: v for k, v in f.items() if k.startswith("learner_")} for f in found))


def test_the_network_is_trained_first_unless_it_is_taken_as_given(tl_run, tmp_path):
    assert (
        tl_run(
            *TINY, "method=no_transfer", "backbone=lenet", f"hydra.run.dir={tmp_path / 'a'}"
        ).code
        == 0
    )
    assert (
        tl_run(
            *TINY,
            "method=no_transfer",
            "backbone=lenet",
            "method.features.epochs=0",
            f"hydra.run.dir={tmp_path / 'b'}",
        ).code
        == 0
    )
    trained, given = results(tmp_path)
    assert (trained["phases"][0]["epochs"], given["phases"][0]["epochs"]) == (2, 0)
    assert "target_test" in trained["phases"][0]["metrics"]
    assert not given["phases"][0]["metrics"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method=kmm", "method.learner=1nn"), "choose one of logistic, svm, ridge"),
        (("method=tradaboost", "data.target_labels=0"), "learns from target labels"),
        (("method=no_transfer", "method.learn_from=target"), "set data.target_labels"),
        (("method=tca", "method.learner=knn"), "Did you mean '1nn'?"),
        (("method=tca", "method.scale=unti"), "Did you mean 'unit'?"),
        (("method=kliep", "method.widths=[]", "method.centres=0"), "of at least 1"),
        (
            (
                "data=mnist2usps",
                "data.transductive=true",
                "data.target_labels=all",
                "method=no_transfer",
            ),
            "leaves none",
        ),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(words, said, tl_run, tmp_path):
    ended = (
        tl_run(*RAW, *words)
        if not words[0].startswith("data=mnist")
        else tl_run("device=cpu", "backbone=raw", *words)
    )
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "outputs").exists()


def test_more_directions_than_there_are_is_a_warning(tl_run, tmp_path):
    ended = tl_run(
        *RAW, "method=pca", "method.dimensions=5000", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    assert "method.dimensions=5000: there are" in ended.err
    (result,) = results(tmp_path)
    assert any("all of which are taken" in text for text in result["warnings"])


@pytest.mark.parametrize(
    ("words", "cure"),
    [
        (("method=tca", "method.kernel=rbf"), "method.landmarks=2000"),
        (("method=kmm",), "method=kliep"),
        (("method=ot_da",), "train.limit.samples"),
    ],
)
def test_what_would_not_fit_the_memory_is_refused_with_a_cure(
    words, cure, tl_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(components, "free_memory", lambda device: 1000.0)
    ended = tl_run(*RAW, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 2
    assert "GiB are free" in ended.err
    assert cure in ended.err


def test_landmarks_of_all_samples_are_the_whole_kernel():
    found = []
    for landmarks in ("null", "300"):
        method, task, _ = made(
            "tca", "method.kernel=rbf", f"method.landmarks={landmarks}", "method.dimensions=5"
        )
        x = [task.splits[f"{d}_train"].x.flatten(1).double() / 255 for d in ("source", "target")]
        method.notes = []
        found.append(method.fit(Domains(x[0], task.splits["source_train"].y, x[1], 10)))
    torch.testing.assert_close(found[0]["map_source_map"], found[1]["map_source_map"])
    method, _, _ = made("tca", "method.kernel=rbf", "method.landmarks=20", "method.dimensions=5")
    method.notes = []
    assert (
        method.fit(Domains(x[0], task.splits["source_train"].y, x[1], 10))["map_points"].shape[0]
        == 20
    )


@pytest.mark.parametrize("name", ["kliep", "kmm"])
def test_weights_favour_source_samples_that_look_like_the_target(name):
    """Made up: half of the source is drawn as the target is, the other half far away."""
    draw = torch.Generator().manual_seed(0)
    near, far = (
        torch.randn(60, 3, generator=draw, dtype=torch.float64) + shift for shift in (1.0, -1.0)
    )
    target = torch.randn(100, 3, generator=draw, dtype=torch.float64) + 1.0
    method, _, _ = made(name)
    weights = method.fit(
        Domains(torch.cat([near, far]), torch.zeros(120, dtype=torch.long), target, 10)
    )["weights"]
    assert float(weights.min()) >= 0
    assert float(weights[:60].mean()) > 3 * float(weights[60:].mean())


def test_tradaboost_is_the_papers_rounds_by_hand():
    method, _, _ = made("tradaboost", "method.rounds=4", "method.learner=ridge")
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 4, generator=draw, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + 2 * (x[:, 1] > 0).long()
    y[:15] = (y[:15] + 1) % 4  # source samples that mislead
    domains = Domains(x[:40], y[:40], x[40:], 10, x[40:], y[40:])
    method.notes = []
    found = method.fit(domains)
    from math import log

    from tl_runner.methods.features._learners import learn, logits

    w, votes, states = np.r_[np.full(40, 0.5 / 40), np.full(20, 0.5 / 20)], [], []
    for _ in range(4):
        w = w / w.sum()
        state = learn("ridge", x, y, 10, 1.0, torch.from_numpy(w / w.mean()))
        wrong = (logits(state, x, 10).argmax(1) != y).numpy()
        error = max((w[40:] * wrong[40:]).sum() / w[40:].sum(), 1e-3)
        vote = log((1 - error) / error) + log(9)
        votes.append(vote)
        states.append(state)
        w = w * np.where(
            wrong,
            np.r_[np.full(40, 1 / (1 + (2 * log(40) / 4) ** 0.5)), np.full(20, np.exp(vote))],
            1,
        )
    np.testing.assert_allclose(found["votes"].numpy(), votes[1:], rtol=1e-6)
    np.testing.assert_allclose(
        found["learner_weight"].numpy(),
        np.stack([s["weight"].numpy() for s in states[1:]]),
        atol=1e-6,
    )
    assert float(found["weights"][:15].mean()) < float(found["weights"][15:].mean())
    method.keep(found, x)
    said = method.logits(x.float())
    by_hand = sum(
        v * torch.nn.functional.one_hot(logits(s, x, 10).argmax(1), 10)
        for v, s in zip(votes[1:], states[1:], strict=True)
    )
    torch.testing.assert_close(said, by_hand.float())


def test_transductive_tests_are_of_the_unlabelled_training_images(made_up_root):
    options = {
        "source": "mnist",
        "target": "usps",
        "root": str(made_up_root),
        "download": False,
        "protocol": "full",
        "size": 28,
    }
    options |= {"channels": 1, "val_fraction": 0.0, "usps_split": "official", "seed": 0}
    task = digits.load(**options, target_labels=0, transductive=True)
    assert task.splits["target_test"].ids.tolist() == task.splits["target_train"].ids.tolist()
    assert task.splits["target_train"].y is None
    assert "transductive" in task.protocol
    task = digits.load(**options, target_labels=1, transductive=True)
    seen = {*task.splits["target_labelled"].ids.tolist()}
    assert not seen & {*task.splits["target_test"].ids.tolist()}
    assert len(task.splits["target_test"]) + len(seen) == len(task.splits["target_train"])
    assert isinstance(task.splits["target_test"], Split)


def test_a_sweep_of_them_has_its_gains_over_no_transfer(tl_run, tmp_path):
    ended = tl_run(
        "-m", *RAW, "method=no_transfer,pca", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"
    )
    assert ended.code == 0, ended.text
    assert "Gain over no_transfer" in ended.text
    assert len(results(tmp_path)) == 4
