"""Similarity of two domains, in the record and in the report; runs and features are made up."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import kendalltau

from support.reports import made_up_run
from support.runs import TINY, results
from tl_runner.cli.report import main
from tl_runner.record import similarity as recorded
from tl_runner.report.runs import collect
from tl_runner.report.similarity import SCORES, correlations, points
from tl_runner.report.table import rows

DATA = ("a2b", "b2a", "c2d", "d2c", "e2f")
FAR = (0.3, 0.9, 1.2, 1.6, 1.9)


def runs(tmp_path, gains=(0.02, 0.05, 0.01, 0.09, 0.2)):
    for data, far, gain in zip(DATA, FAR, gains, strict=True):
        for seed in (0, 1):
            made_up_run(
                tmp_path / f"{data}-s-{seed}", "source_only", seed, 0.5 + 0.01 * seed, data=data
            )
            similarity = {
                "a_distance": {"before": far + 0.1 * seed},
                "transferability": {"before": {"logme": -far}},
            }
            made_up_run(
                tmp_path / f"{data}-d-{seed}",
                "dan",
                seed,
                0.5 + 0.01 * seed + gain,
                data=data,
                **similarity,
            )
    return rows(collect([tmp_path]))


def test_the_correlation_is_of_the_groups_means(tmp_path):
    table = runs(tmp_path)
    of = points(table, "a_distance")
    assert sorted(round(point.score, 6) for point in of) == [round(far + 0.05, 6) for far in FAR]
    found = {one.score: one for one in correlations(table)}
    tau, p = kendalltau(FAR, (0.02, 0.05, 0.01, 0.09, 0.2))
    assert found["a_distance"].tau == pytest.approx(tau)
    # of five domains every exchange is as likely
    assert found["a_distance"].p == pytest.approx(p, abs=0.05)
    assert found["transferability.logme"].tau == pytest.approx(-tau)
    assert (found["a_distance"].n, found["a_distance"].data) == (5, 5)
    assert found.keys() == {"a_distance", "transferability.logme"}
    assert "useless" in found["a_distance"].reading


def test_groups_of_one_domain_are_one_draw_of_its_score(tmp_path):
    for data, far, gain in zip(DATA, FAR, (0.01, 0.02, 0.03, 0.04, 0.05), strict=True):
        made_up_run(tmp_path / f"{data}-s", "source_only", 0, 0.5, data=data)
        for method in ("dan", "dann", "mcd", "jan"):
            made_up_run(
                tmp_path / f"{data}-{method}",
                method,
                0,
                0.5 + gain,
                data=data,
                a_distance={"before": far},
            )
    (found,) = correlations(rows(collect([tmp_path])))
    assert (found.n, found.data, found.tau) == (20, 5, pytest.approx(1))
    # twenty points by themselves would have had 1e-8
    assert found.p == pytest.approx(2 / 120, abs=0.01)


def test_few_data_sets_tell_nothing_however_many_runs_there_are(tmp_path):
    for data, far, gain in (("a2b", 0.3, 0.01), ("b2a", 0.9, 0.03)):
        made_up_run(tmp_path / f"{data}-s", "source_only", 0, 0.5, data=data)
        for i, method in enumerate(("dan", "dann", "mcd", "jan")):
            made_up_run(
                tmp_path / f"{data}-{method}",
                method,
                0,
                0.5 + gain + 0.001 * i,
                data=data,
                a_distance={"before": far},
            )
    (found,) = correlations(rows(collect([tmp_path])))
    assert np.isnan(found.p)
    assert "too few" in found.reading


def test_a_score_that_goes_with_the_gain_is_said_to(tmp_path):
    (one, other) = correlations(runs(tmp_path, (0.01, 0.02, 0.03, 0.04, 0.05)))
    assert (one.tau, other.tau) == pytest.approx((1, -1))
    assert "larger" in one.reading
    assert "smaller" in other.reading
    (same, _) = correlations(runs(tmp_path / "same", (0.1,) * 5))
    assert "same everywhere" in same.reading or "useless" in same.reading


@pytest.mark.parametrize("kind", ["table", "csv", "md", "latex", "json"])
def test_the_report_has_it_in_every_format(tmp_path, kind, capsys):
    runs(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), "--similarity", "--format", kind])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "logme" in said
    if kind == "json":
        assert {one["score"] for one in json.loads(said)["similarity"]} == {
            "a_distance",
            "transferability.logme",
        }


def test_too_few_groups_are_said_to_be(tmp_path, capsys):
    made_up_run(tmp_path / "run", "dan", 0, 0.9)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), "--likeness"])
    assert ended.value.code == 2
    assert "fewer than 4 groups" in capsys.readouterr().err


def test_the_page_plots_gain_against_similarity(tmp_path):
    runs(tmp_path / "runs")
    with pytest.raises(SystemExit):
        main([str(tmp_path / "runs"), "-o", str(tmp_path / "page.html")])
    page = (tmp_path / "page.html").read_text()
    assert "Similarity and gain" in page
    assert "gain against transferability: logme" in page


def test_what_cannot_be_compared_has_no_score():
    draw = np.random.default_rng(0)
    features = {
        "before/source": draw.normal(size=(20, 3)),
        "before/target": draw.normal(size=(20, 3)),
        "target/labels": np.arange(20) % 2,
    }
    assert recorded.distances(features)["before"].keys() == {
        "mmd",
        "mmd_p",
        "coral",
        "wasserstein",
        "sliced_wasserstein",
    }
    assert recorded.transfer(features)["before"].keys() == {"logme", "h_score", "linear_probe"}
    said = {**features, "before/target/said": draw.dirichlet(np.ones(2), 20).astype(np.float16)}
    assert {"leep", "nce"} <= recorded.transfer(said)["before"].keys()
    assert recorded.distances({**features, "before/source": np.zeros((20, 4))}) == {}
    assert recorded.transfer({**features, "target/labels": np.zeros(20, int)}) == {}


def test_a_run_records_the_similarity_of_its_domains(tl_run, tmp_path):
    assert tl_run(*TINY, "method=dan", f"hydra.run.dir={tmp_path / 'run'}").code == 0
    (result,) = results(tmp_path)
    for when in ("before", "after"):
        assert result["distances"][when]["mmd_p"] <= 1
        known = {
            name.removeprefix("transferability.") for name in SCORES if name.startswith("transf")
        }
        # 500 features of 200 samples: no H-score
        assert known - {"h_score"} == {*result["transferability"][when]}
    (run,) = collect([tmp_path])
    assert run.value("distances.before.coral") == result["distances"]["before"]["coral"]
    assert {"a_distance.before", "transferability.after.leep"} <= {*run.metrics()}
