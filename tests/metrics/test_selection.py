"""Selection scores against brute force and known answers, and the rules that go by them. All images
and features are made up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.linear_model import Ridge
from torch import nn

from support.reports import made_up_run, report
from support.runs import TINY, results
from tl_runner.config.paths import CONF_DIR
from tl_runner.data.splits import Split
from tl_runner.methods.adaptation.source_only import SourceOnly
from tl_runner.methods.phases import Length, Outputs, Phase
from tl_runner.metrics import selection_rules as rules
from tl_runner.metrics.selection_scores import importance, reverse
from tl_runner.metrics.selection_scores import unlabelled as selection
from tl_runner.report.runs import collect
from tl_runner.report.selection_cost import rule_table
from tl_runner.report.table import rows as table_rows
from tl_runner.training import evaluator as evaluation
from tl_runner.training.evaluator import Evaluator

# ---- soft neighbourhood density

OF_OTHER_DATA = ("target_val", "meta_val")  # labelled target images held out, few-shot tasks
USUAL = {name: rule for name, rule in rules.RULES.items() if name not in OF_OTHER_DATA}


def probabilities(n: int, k: int, sharpness: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(n, k, generator=generator, dtype=torch.float64)).softmax(1)


def test_snd_is_the_mean_entropy_of_each_samples_neighbours():
    p = probabilities(23, 4).tolist()
    cosine = [
        [sum(a * b for a, b in zip(x, y, strict=True)) / math.hypot(*x) / math.hypot(*y) for y in p]
        for x in p
    ]
    total = 0.0
    for i, row in enumerate(cosine):
        weights = [math.exp(c / 0.05) for j, c in enumerate(row) if j != i]
        total -= sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights)
    for chunk in (500, 23, 7, 1):
        assert selection.snd(probabilities(23, 4), chunk=chunk).item() == pytest.approx(
            total / 23, abs=1e-12
        )


def test_snd_prefers_clusters_to_a_scatter_and_a_collapse_to_both():
    scattered = probabilities(200, 5, sharpness=1)
    clustered = 0.02 + 0.9 * torch.eye(5, dtype=torch.float64)[scattered.argmax(1)]
    collapsed = clustered[:1].expand(200, 5)
    assert selection.snd(scattered) < selection.snd(clustered) < selection.snd(collapsed)
    assert selection.snd(collapsed).item() == pytest.approx(math.log(199))
    assert selection.snd(scattered[:1]).isnan()


# ---- deep embedded validation


def domains(n: int, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Normal clouds (n, 3) a shift apart along the first axis: log p_t / p_s (x) = shift x_0 -
    shift^2 / 2."""
    draw = np.random.default_rng(seed)
    source, target = draw.normal(size=(n, 3)), draw.normal(size=(n, 3))
    target[:, 0] += shift
    return source, target


def test_the_density_ratio_of_two_normals_is_the_known_one():
    source, target = domains(4000, 1.0)
    at = domains(200, 1.0, seed=1)[0]
    for fewer in (4000, 1000):  # unequal sizes do not show
        found = np.log(importance.density_ratio(source, target[:fewer], at))
        assert np.abs(found - (at[:, 0] - 0.5)).mean() < 0.1


def test_dev_is_close_to_the_targets_risk_where_the_sources_is_far():
    source, target = domains(4000, 1.0)
    validated = domains(4000, 1.0, seed=1)[0]
    wrong = (validated[:, 0] > 0.5).astype(float)  # a classifier that errs on that side
    risk = importance.dev_risk(importance.density_ratio(source, target, validated), wrong)
    on_source, on_target = scipy.stats.norm.sf(0.5), scipy.stats.norm.sf(0.5 - 1.0)
    assert risk == pytest.approx(on_target, abs=0.03)
    assert abs(on_source - on_target) > 0.3


def test_the_control_variate_by_hand():
    weights, losses = [0.5, 1.0, 3.0, 0.25], [1.0, 0.0, 1.0, 0.0]
    weighted = [w * loss for w, loss in zip(weights, losses, strict=True)]
    mean_w, mean_wl = sum(weights) / 4, sum(weighted) / 4
    covariance = (
        sum((a - mean_wl) * (w - mean_w) for a, w in zip(weighted, weights, strict=True)) / 3
    )
    variance = sum((w - mean_w) ** 2 for w in weights) / 3
    eta = -covariance / variance
    assert importance.dev_risk(np.array(weights), np.array(losses)) == pytest.approx(
        mean_wl + eta * mean_w - eta, abs=1e-14
    )


def test_the_control_variate_takes_away_what_the_weights_add():
    weights = np.random.default_rng(0).exponential(size=50) + 3  # their mean should be 1 and is not
    for loss in (0.0, 0.3, 1.0):
        assert importance.dev_risk(weights, np.full(50, loss)) == pytest.approx(loss, abs=1e-12)


# ---- reverse validation


@pytest.mark.parametrize(("n", "d"), [(60, 5), (20, 50)])
def test_the_reverse_classifier_is_ridge_regression_on_one_hot_labels(n, d):
    draw = np.random.default_rng(0)
    target, source, predicted, labels = (
        draw.normal(size=(n, d)),
        draw.normal(size=(40, d)),
        draw.integers(0, 3, n),
        draw.integers(0, 3, 40),
    )
    scaled = (target - target.mean(0)).std()
    ridge = Ridge(alpha=reverse.RIDGE * n).fit(target / scaled, np.eye(3)[predicted])
    expected = (ridge.predict(source / scaled).argmax(1) == labels).mean()
    assert reverse.reverse_accuracy(target, predicted, source, labels, 3) == expected
    assert 0 < expected < 1


def test_reverse_validation_of_clusters_that_meet_and_that_do_not():
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 200)
    centres = 5 * np.eye(4, 8)
    target, source = (centres[labels] + draw.normal(size=(200, 8)) * 0.3 for _ in range(2))
    assert reverse.reverse_accuracy(target, labels, source, labels, 4) == 1
    assert reverse.reverse_accuracy(target, (labels + 1) % 4, source, labels, 4) == 0
    assert (
        reverse.reverse_accuracy(target, np.zeros(200, int), source, labels, 4)
        == (labels == 0).mean()
    )
    never = np.where(labels == 3, 2, labels)
    assert reverse.reverse_accuracy(target, never, source, labels, 4) == pytest.approx(
        (labels != 3).mean()
    )


def test_scores_of_degenerate_features_are_finite():
    draw = np.random.default_rng(0)
    same, ordinary = np.full((20, 6), 0.1), draw.normal(size=(20, 6))
    for source, target in (
        (same, same),
        (same, ordinary),
        (ordinary, same),
        (ordinary[:2], ordinary[:2]),
        (ordinary, ordinary + 1e6),
    ):
        for validated in (source, source[:1], target + 1e3):
            weights = importance.density_ratio(source, target, validated)
            assert np.isfinite(importance.dev_risk(weights, np.ones(len(validated))))
            found = reverse.reverse_accuracy(
                target, np.zeros(len(target), int), validated, np.zeros(len(validated), int), 3
            )
            assert found == 1
    assert importance.dev_risk(
        importance.density_ratio(same, same, same), np.ones(20)
    ) == pytest.approx(1, abs=1e-6)


# ---- the evaluator


class Toy(nn.Module):
    """Two linear layers on the pixels."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.encoder, self.head = (
                nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.ReLU()),
                nn.Linear(6, 3),
            )

    def forward(self, x):
        return self.head(self.encoder(x))

    def phase(self, **more) -> Phase:
        embed = {"source": self.encoder, "target": self.encoder}
        return Phase(
            "toy", {}, [], Length(1, 2), Outputs(**{"predict": self, "embed": embed} | more)
        )


def split(n: int, labelled: bool = True, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    x, y = (
        torch.randint(256, (n, 1, 3, 3), generator=generator).byte(),
        torch.randint(3, (n,), generator=generator),
    )
    return Split(x, y if labelled else None, torch.arange(n))


def splits(**sizes: int) -> dict[str, Split]:
    sizes = {
        "source_train": 40,
        "source_val": 15,
        "source_test": 20,
        "target_train": 60,
        "target_test": 30,
    } | sizes
    return {
        name: split(n, name != "target_train", i) for i, (name, n) in enumerate(sizes.items()) if n
    }


CPU = SimpleNamespace(
    begin_step=lambda: None, lay_out=lambda images: images, autocast=lambda: torch.enable_grad()
)


def after_epoch(
    given: dict[str, Split], phase: Phase | None = None, oracle: bool = False
) -> dict[str, dict[str, float]]:
    toy = Toy()
    return Evaluator(toy, given, CPU, 0, oracle).after_epoch(phase or toy.phase())


def test_every_rule_has_its_score_and_they_repeat_to_the_bit():
    found = after_epoch(splits())
    assert list(rules.scores(found)) == [name for name in USUAL if name != "last"]
    assert all(math.isfinite(value) for metrics in found.values() for value in metrics.values())
    assert after_epoch(splits()) == found


def test_the_scores_of_a_few_images_are_those_of_their_features(monkeypatch):
    monkeypatch.setattr(evaluation, "COMPARED", 12)
    given, toy = splits(), Toy()
    evaluator = Evaluator(toy, given, CPU, 0, False)
    found = evaluator.after_epoch(toy.phase())["source_val"]
    few = {name: given[name].take(rows) for name, rows in evaluator._compared.items()}
    assert {name: len(one) for name, one in few.items()} == dict.fromkeys(rules.COMPARED, 12)
    with torch.no_grad():
        z = {name: toy.encoder(one.x / 255).double().numpy() for name, one in few.items()}
        said = {name: toy(one.x / 255).argmax(1).numpy() for name, one in few.items()}
    y = few["source_val"].y.numpy()
    weights = importance.density_ratio(z["source_train"], z["target_train"], z["source_val"])
    assert found["dev"] == pytest.approx(
        -importance.dev_risk(weights, (said["source_val"] != y).astype(float)), abs=1e-6
    )
    expected = reverse.reverse_accuracy(
        z["target_train"], said["target_train"], z["source_val"], y, 3
    )
    assert found["reverse_validation"] == expected


@pytest.mark.parametrize("oracle", [False, True])
def test_target_labels_reach_the_oracle_alone(oracle):
    given = splits()
    y = given["target_test"].y
    permuted = {**given, "target_test": replace(given["target_test"], y=y.roll(1))}
    one, other = after_epoch(given, oracle=oracle), after_epoch(permuted, oracle=oracle)
    assert one.pop("target_test") != other.pop("target_test")
    assert one == other
    assert given["target_train"].y is None


def test_source_images_go_through_the_sources_own_classifier():
    toy, given = Toy(), splits()
    usual = after_epoch(given)
    own = after_epoch(given, toy.phase(source_predict=lambda x: toy(x).roll(1, 1)))
    assert own["target_train"] == usual["target_train"]
    assert own["target_test"] == usual["target_test"]
    assert own["source_val"]["accuracy"] != usual["source_val"]["accuracy"]
    phase = toy.phase(source_predict=lambda x: toy(x).roll(1, 1))
    evaluator = Evaluator(toy, given, CPU, 0, False)
    assert (
        evaluator.after_phase(phase)["source_test"]
        != evaluator.after_phase(toy.phase())["source_test"]
    )
    rolled, straight = (
        evaluator.at_the_end(p)[1]["source_val/probabilities"] for p in (phase, toy.phase())
    )
    assert rolled == pytest.approx(np.roll(straight, 1, 1), abs=1e-6)
    assert rolled != pytest.approx(straight, abs=1e-3)


@pytest.mark.parametrize(
    ("encoders", "expected"),
    [("one", ["target"] * 3), ("two", ["source", "target", "target", "target"])],
)
def test_dev_judges_the_classifier_whose_features_it_reads(encoders, expected):
    """Where each domain has an encoder and one classifier serves both, DEV's source features are
    the target encoder's."""
    toy, seen = Toy(), []

    def encoder(name):
        def encode(x):
            seen.append(name)
            return toy.encoder(x)

        return encode

    target = encoder("target")
    after_epoch(
        splits(),
        toy.phase(
            embed={"source": target if encoders == "one" else encoder("source"), "target": target}
        ),
    )
    assert sorted(seen) == expected


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (splits(source_val=1, target_train=1, source_train=1), {"snd", "dev"}),
        (splits(source_val=1), set()),
        (splits(source_val=0), {"source_val", "dev", "reverse_validation"}),
        (splits(target_train=0), {"entropy", "im", "snd", "bnm", "dev", "reverse_validation"}),
        (splits(target_train=0, target_test=0, source_val=0), set(USUAL)),
    ],
)
def test_what_cannot_be_told_is_left_out(given, missing):
    found = after_epoch(given)
    assert rules.scores(found).keys() == USUAL.keys() - missing - {"last"}
    assert all(math.isfinite(value) for metrics in found.values() for value in metrics.values())


@pytest.mark.parametrize(
    "make",
    [lambda x: torch.zeros(len(x), 3), lambda x: torch.tensor([[9.0, 0, 0]]).repeat(len(x), 1)],
)
@pytest.mark.parametrize("encode", [lambda x: torch.ones(len(x), 4), lambda x: x])
def test_degenerate_classifiers_and_features_have_finite_scores(make, encode):
    found = after_epoch(
        splits(), Toy().phase(predict=make, embed={"source": encode, "target": encode})
    )
    assert rules.scores(found).keys() == USUAL.keys() - {"last"}
    assert all(math.isfinite(value) for metrics in found.values() for value in metrics.values())


def test_features_of_different_lengths_are_not_compared():
    toy = Toy()
    for embed in (
        {"source": lambda x: x[:, :, :1], "target": toy.encoder},
        {"target": toy.encoder},
        {},
    ):
        found = after_epoch(splits(), toy.phase(embed=embed, source_predict=toy))
        assert not {"dev", "reverse_validation"} & found["source_val"].keys()


# ---- the list of rules


def test_every_rule_is_in_the_help_and_in_the_config(tl_run):
    words = {
        w.strip(",;")
        for text in (tl_run("--help").out, (CONF_DIR / "config.yaml").read_text())
        for w in text.split()
    }
    assert rules.RULES.keys() <= words
    (line,) = [
        line
        for line in (CONF_DIR / "config.yaml").read_text().splitlines()
        if line.startswith("selection:")
    ]
    assert all(name in line for name in rules.RULES)


def epochs(*scores: dict[str, float], phase: str = "adapt") -> list[dict]:
    """Rows of ``metrics.jsonl`` with these scores of rules, one dict an epoch."""
    found = []
    for i, by_rule in enumerate(scores, 1):
        for name, value in by_rule.items():
            rule = rules.RULES[name]
            found.append(
                {"phase": phase, "epoch": i, "step": 10 * i, "split": rule.split, rule.name: value}
            )
    return found


def test_choices_by_hand():
    before = epochs({"oracle": 0.99, "im": 9.0}, phase="pretrain")
    own = epochs(
        {"oracle": 0.6, "im": 1.0, "dev": -0.5, "snd": 3.0},
        {"oracle": 0.9, "im": 1.0, "dev": -0.2},
        {"oracle": 0.7, "im": 0.5, "dev": -0.1, "snd": 4.0},
    )
    ended = [
        {"phase": "adapt", "epoch": 3, "selected": True, "split": "target_test", "accuracy": 1.0}
    ]
    assert rules.as_json(rules.choices([*before, *own, *ended])) == {
        "last": {"epoch": 3, "score": None, "accuracy": 0.7, "regret": pytest.approx(0.2)},
        # a tie goes to the first epoch
        "im": {"epoch": 1, "score": 1.0, "accuracy": 0.6, "regret": pytest.approx(0.3)},
        "dev": {"epoch": 3, "score": -0.1, "accuracy": 0.7, "regret": pytest.approx(0.2)},
        "oracle": {"epoch": 2, "score": 0.9, "accuracy": 0.9, "regret": 0.0},
    }
    assert rules.choices([row for row in own if row["split"] != "target_test"]) == {}
    assert rules.choices([]) == {}
    # of one epoch there is nothing to choose
    assert rules.choices(epochs({"oracle": 0.6, "im": 1.0})) == {}


def test_choices_of_damaged_rows_leave_out_what_is_no_number():
    own = epochs(
        {"oracle": 0.6, "im": 1.0, "bnm": True}, {"oracle": 0.5, "im": "much", "bnm": float("nan")}
    )
    odd = [
        {"step": 1},
        {"phase": "adapt", "step": 3, "epoch": "x", "split": ["a"]},
        {"phase": "adapt", "step": 4, "epoch": True},
    ]
    assert list(rules.choices([*odd, *own])) == ["last", "oracle"]


def test_the_line_of_an_epoch_names_the_usual_scores_and_the_deciding_one():
    scores = {name: 0.5 for name in USUAL if name != "last"}
    assert list(rules.shown(scores, "last")) == ["source_val accuracy", "target im"]
    assert list(rules.shown(scores, "dev")) == ["source_val accuracy", "target im", "dev"]
    assert list(rules.shown(scores, "oracle")) == [
        "source_val accuracy",
        "target im",
        "target_test accuracy (oracle)",
    ]


# ---- what a run makes of them


def test_a_run_records_what_each_rule_would_have_chosen(tl_run, tmp_path):
    ended = tl_run(*TINY, "train.epochs=3", f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    lines = [line for line in lines if line["phase"] == "adapt" and "step" in line]
    truth = {line["epoch"]: line["accuracy"] for line in lines if line["split"] == "target_test"}
    assert list(result["rules"]) == list(USUAL)
    for name, choice in result["rules"].items():
        rule = rules.RULES[name]
        score = {
            line["epoch"]: line[rule.name]
            for line in lines
            if line["split"] == rule.split and rule.name in line
        }
        epoch = max(score, key=lambda e: (score[e], -e)) if score else 3
        assert choice == {
            "epoch": epoch,
            "score": score.get(epoch),
            "accuracy": truth[epoch],
            "regret": max(truth.values()) - truth[epoch],
        }
    assert result["a_distance"].keys() == {"before", "after"}
    assert all(0 <= d <= 2 for d in result["a_distance"].values())
    assert not (tmp_path / "run" / "figures").exists()
    closing = ended.err[ended.err.rindex("accuracy, %") :]
    assert max(map(len, closing.replace(f" folder {tmp_path / 'run'}", "").splitlines())) <= 100
    if len({choice["epoch"] for choice in result["rules"].values()}) > 1:
        assert f"best (epoch {result['rules']['oracle']['epoch']})" in " ".join(closing.split())


def test_without_validation_images_the_other_rules_stand(tl_run, tmp_path):
    words = ("method=source_only", "data.val_fraction=0", "selection=snd")
    ended = tl_run(*TINY, *words, f"hydra.run.dir={tmp_path / 'run'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["rules"].keys() == USUAL.keys() - {"source_val", "dev", "reverse_validation"}
    assert result["a_distance"].keys() == {"after"}
    assert "  snd " in ended.err


def test_a_method_without_features_cannot_be_selected_by_them(tl_run, tmp_path, monkeypatch):
    phases = SourceOnly.phases

    def without_features(method):
        return [replace(p, outputs=replace(p.outputs, embed={})) for p in phases(method)]

    monkeypatch.setattr(SourceOnly, "phases", without_features)
    for rule in ("dev", "reverse_validation"):
        ended = tl_run(
            *TINY, "method=source_only", f"selection={rule}", f"hydra.run.dir={tmp_path / 'run'}"
        )
        assert ended.code == 2
        assert f"selection={rule} compares features" in ended.err
        assert not (tmp_path / "run" / "result.json").exists()
    ended = tl_run(*TINY, "method=source_only", f"hydra.run.dir={tmp_path / 'other'}")
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["rules"].keys() == USUAL.keys() - {"dev", "reverse_validation"}
    assert "a_distance" not in result


def test_a_score_that_is_never_defined_leaves_the_last_epoch_and_says_so(
    tl_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(evaluation.importance, "dev_risk", lambda *_: math.nan)
    ended = tl_run(
        *TINY, "method=source_only", "selection=dev", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    assert "selection=dev was undefined after every epoch" in ended.err
    (result,) = results(tmp_path)
    assert result["selected_epoch"] is None
    assert "dev" not in result["rules"]


# ---- the report's table


def written(folder, method, data, seed, *scores):
    made_up_run(folder, method, seed, 0.7, data=data)
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in epochs(*scores))
    )


@pytest.fixture
def two_data_sets(tmp_path):
    """``last`` always loses 0.1 or more, ``im`` nothing on one data set; ``snd`` was recorded by
    some runs only."""
    for seed, late in enumerate((0.8, 0.7, 0.75)):
        written(
            tmp_path / f"a{seed}",
            "adda",
            "fonts2digits",
            seed,
            {"oracle": 0.9, "im": 2.0},
            {"oracle": late, "im": 1.0},
        )
        written(
            tmp_path / f"b{seed}",
            "dan",
            "usps2mnist",
            seed,
            {"oracle": 0.9, "im": 1.0, "snd": 1.0},
            {"oracle": late, "im": 2.0, "snd": 0.0},
        )
    made_up_run(tmp_path / "failed", "adda", 9, None)
    return tmp_path


def test_mean_regrets_and_intervals_by_hand(two_data_sets):
    found = {
        (one.rule, one.data): one.value for one in rule_table(table_rows(collect([two_data_sets])))
    }
    lost = [0.1, 0.2, 0.15]
    assert {key: (round(value.mean, 9), value.n) for key, value in found.items()} == {
        ("last", "fonts2digits"): (0.15, 3),
        ("last", "usps2mnist"): (0.15, 3),
        ("last", "all"): (0.15, 6),
        ("im", "fonts2digits"): (0.0, 3),
        ("im", "usps2mnist"): (0.15, 3),
        ("im", "all"): (0.075, 6),
        ("snd", "usps2mnist"): (0.0, 3),
        ("snd", "all"): (0.0, 3),
    }
    low, high = scipy.stats.t.interval(0.95, 2, np.mean(lost), scipy.stats.sem(lost))
    assert [found["last", "usps2mnist"].low, found["last", "usps2mnist"].high] == pytest.approx(
        [low, high]
    )
    low, high = scipy.stats.t.interval(0.95, 5, 0.075, scipy.stats.sem([0, 0, 0, *lost]))
    assert low < 0
    # nobody loses less than nothing
    assert [found["im", "all"].low, found["im", "all"].high] == pytest.approx([0, high])


def test_the_table_of_rules_in_every_format(two_data_sets, capsys):
    code, out, _ = report(capsys, two_data_sets, "--rules")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == ["selection", "fonts2digits", "usps2mnist", "all"]
    assert "0.0 [0.0, 0.0] (3) *" in next(line for line in lines if line.startswith("  im"))
    assert "15.0 [2.6, 27.4] (3)" in next(line for line in lines if line.startswith("  last"))
    assert "Student's" in out
    assert "Not every run recorded every rule" in out
    for kind, expected in {
        "md": "| im | **0.0 \\[0.0, 0.0\\] (3)** |",
        "latex": r"im & \textbf{0.0 [0.0, 0.0] (3)} &",
        "csv": "im,fonts2digits,3,0.0,0.0,0.0",
    }.items():
        assert expected in report(capsys, two_data_sets, "--rules", "--format", kind)[1]
    content = json.loads(report(capsys, two_data_sets, "--rules", "--format", "json")[1])
    assert {
        "rule": "snd",
        "data": "all",
        "value": {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 3},
    } in content["rules"]
    assert json.loads(report(capsys, two_data_sets, "--format", "json")[1])["rules"] == []


def test_rules_that_cannot_be_told_or_shown(two_data_sets, tmp_path, capsys):
    for words, said in (
        (["--rules", "--runs"], "one at a time"),
        (["--rules", "--format", "html", "-o", tmp_path / "x.html"], "HTML page"),
    ):
        code, _, err = report(capsys, two_data_sets, *words)
        assert (code, said in err) == (2, True)
    made_up_run(tmp_path / "alone" / "0", "adda", 0, 0.7)
    code, _, err = report(capsys, tmp_path / "alone", "--rules")
    assert (code, "every epoch" in err) == (2, True)
