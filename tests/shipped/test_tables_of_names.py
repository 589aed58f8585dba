"""Tables of metrics and of similarity measures: complete, and nothing falls through them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from support.runs import TINY, results
from tl_runner.backbones._batch_norm import use_domain
from tl_runner.cli.report import main
from tl_runner.errors import UserError, human_list
from tl_runner.metrics.direction import is_known, lower_is_better
from tl_runner.report.metric import metric_of
from tl_runner.report.runs import collect
from tl_runner.similarity import measures
from tl_runner.similarity.measures import MEASURES

SINUSOIDS = (
    "data=sinusoid",
    "data.tasks.val=4",
    "data.tasks.test=4",
    "method.task_batching=vmap",
    "debug=smoke",
    "device=cpu",
    "figures=false",
)


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("accuracy", False),
        ("accuracy_after_3", False),
        ("accuracy_ci95", True),
        ("f1_macro", False),
        ("mse_after_10", True),
        ("log_loss", True),
        ("forgetting", True),
        ("im", False),
        ("images_per_s", False),
    ],
)
def test_which_way_is_better(name, lower):
    assert lower_is_better(name) is lower


@pytest.mark.parametrize("name", ["mse_of_something", "macro", "wall", "before", "", "accuracy_3"])
def test_a_metric_that_no_table_has_is_refused(name):
    assert not is_known(name)
    with pytest.raises(KeyError, match="no such metric"):
        lower_is_better(name)


def test_every_number_that_a_run_records_is_in_a_table(tl_run, tmp_path):
    words = {"dan": TINY, "maml": SINUSOIDS}
    for method, own in words.items():
        assert tl_run(*own, f"method={method}", f"hydra.run.dir={tmp_path / method}").code == 0
    runs = collect([tmp_path])
    for name in {name for run in runs for name in run.metrics()}:
        assert isinstance(metric_of(name, runs).lower_is_better, bool)
    (result, _) = results(tmp_path)
    (tmp_path / "dan" / "result.json").write_text(
        json.dumps(result | {"metrics": {"target_test": {"banana": 1.0}}})
    )
    with pytest.raises(UserError, match="banana is no metric"):
        metric_of("target_test.banana", collect([tmp_path / "dan"]))


def test_every_measure_can_be_computed():
    draw = np.random.default_rng(0)
    source, target, y = draw.normal(size=(40, 3)), draw.normal(size=(40, 3)), np.arange(40) % 2
    p = draw.dirichlet(np.ones(2), 40)
    for measure in MEASURES:
        read = (
            (measures.inputs(measure, target, p), y) if measure.needs_labels else (source, target)
        )
        assert np.isfinite(measure.compute(*read))
        assert measure.lower_is_better is not measure.needs_labels
    assert len({measure.name for measure in MEASURES}) == len(MEASURES)


def test_the_table_of_measures_imports_no_numpy():
    code = (
        "import sys; import tl_runner.similarity.measures, tl_runner.metrics.direction\n"
        "assert not {'numpy', 'torch', 'sklearn'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_search_for_a_metric_that_there_is_not_starts_no_trial(tl_run, tmp_path):
    ended = tl_run(
        "-m",
        "sweep=tpe",
        "method=adda",
        "sweep.objective=source_val.acuracy",
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    )
    assert ended.code == 2
    assert "Did you mean 'source_val.accuracy'" in ended.err
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize("flag", ["--similarity", "--likeness"])
def test_the_former_flag_is_another_name(tmp_path, capsys, flag):
    (tmp_path / "run").mkdir()
    content = {"status": "failed", "choices": {"method": "dan", "data": "a"}, "error": "no"}
    (tmp_path / "run" / "result.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path), flag])
    assert ended.value.code == 2
    assert "--similarity: fewer than 4 groups" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "likeness" not in capsys.readouterr().out


def test_a_list_of_words_reads_as_a_sentence():
    assert human_list([]) == ""
    assert human_list(["a"]) == "a"
    assert human_list(["a", "b", 3]) == "a, b and 3"
    assert human_list("abc", most=3) == "a, b, c"
    assert human_list("abcde", most=3) == "a, b, c and 2 more"


def test_batch_norm_has_two_domains(monkeypatch):
    with pytest.raises(ValueError, match="one of source, target"):
        use_domain(object(), "tagret")
