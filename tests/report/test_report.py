"""tl-report: grouping, gains, failed and missing cells, formats. The run folders are made up here,
but for one small sweep."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from support.reports import made_up_run, report
from support.runs import ROOT, TINY
from tl_runner.errors import UserError
from tl_runner.report import formats, grid, statistics
from tl_runner.report.reading import normal
from tl_runner.report.runs import collect
from tl_runner.report.table import compare, rows

SEEDS = range(5)


@pytest.fixture
def sweep(tmp_path):
    """Two methods and an oracle over five seeds; one failed, one never began, one was killed."""
    random.seed(0)
    jobs = []
    for i, (method, base) in enumerate(
        [("source_only", 0.4), ("adda", 0.9), ("target_only", 0.97)]
    ):
        for seed in SEEDS:
            name = f"{i * 5 + seed}-{method}-fonts2digits-s{seed}"
            choices = {
                "method": method,
                "data": "fonts2digits",
                "backbone": "lenet",
                "device": "cpu",
            }
            jobs.append(
                {
                    "folder": name,
                    "overrides": [f"method={method}", f"seed={seed}"],
                    "choices": choices,
                    "seed": seed,
                }
            )
            if (method, seed) == ("adda", 4):  # never began
                continue
            oracle = {"uses_target_labels": method == "target_only"}
            made_up_run(tmp_path / name, method, seed, base + random.uniform(-0.03, 0.03), **oracle)
    failed = tmp_path / "8-adda-fonts2digits-s3" / "result.json"
    failed.write_text(
        json.dumps(
            json.loads(failed.read_text())
            | {"status": "failed", "error": "Loss <b>diverged</b>\nand more"}
        )
    )
    killed = tmp_path / "14-target_only-fonts2digits-s4"
    (killed / "result.json").unlink()
    (killed / "run.log").write_text("began\n")
    (tmp_path / "sweep.json").write_text(json.dumps({"command": ["tl-run", "-m"], "jobs": jobs}))
    return tmp_path


def by_method(table):
    return {row.keys["method"]: row for row in table}


# ---- runs and rows


def test_means_gains_and_absences_of_a_sweep(sweep):
    runs = collect([sweep])
    assert [
        sum(r.status == s for r in runs) for s in ("done", "failed", "missing", "interrupted")
    ] == [12, 1, 1, 1]
    table = by_method(rows(runs))
    adda, base = table["adda"], table["source_only"]
    values = [adda.values[s] for s in (0, 1, 2)]
    assert adda.mean == pytest.approx(np.mean(values), abs=1e-15)
    assert adda.std == pytest.approx(np.std(values, ddof=1), abs=1e-15)
    assert [r.status for r in adda.absent] == ["failed", "missing"]
    low, high = scipy.stats.t.interval(
        0.95, 2, *_mean_and_error([adda.values[s] - base.values[s] for s in (0, 1, 2)])
    )
    assert (adda.gain.n, base.gain) == (3, None)
    assert [adda.gain.low, adda.gain.high] == pytest.approx([low, high])
    assert (adda.best, table["target_only"].best, table["target_only"].oracle) == (
        True,
        False,
        True,
    )


def _mean_and_error(values):
    return np.mean(values), scipy.stats.sem(values)


def test_the_order_of_the_runs_changes_no_digit(sweep):
    runs = collect([sweep, sweep])
    assert len(runs) == 15
    first = formats.as_json(rows(runs)), formats.terminal(rows(runs))
    for i in range(10):
        random.Random(i).shuffle(runs)
        assert (formats.as_json(rows(runs)), formats.terminal(rows(runs))) == first


def test_groups_are_what_varies_but_the_seed(tmp_path):
    for seed in (0, 1):
        made_up_run(
            tmp_path / f"a{seed}",
            "adda",
            seed,
            0.8,
            ("train.lr=1e-4", f"data.root=/disk{seed}", "hydra.job.num=3"),
        )
        made_up_run(
            tmp_path / f"b{seed}", "adda", seed, 0.7, ("train.lr=0.01",), {"train": {"lr": 0.01}}
        )
        made_up_run(tmp_path / f"c{seed}", "adda", seed + 2, 0.9)  # the config's own 0.0001
        made_up_run(tmp_path / f"d{seed}", "adda", seed, 0.6, ("experiment=other",))
    table = rows(collect([tmp_path]))
    assert {(row.keys["train.lr"], row.keys["experiment"]): row.mean for row in table} == {
        ("0.0001", "default"): pytest.approx(0.85),
        ("0.01", "default"): 0.7,
        ("0.0001", "other"): 0.6,
    }
    assert set(table[0].keys) == {"method", "data", "backbone", "device", "train.lr", "experiment"}


def test_a_seed_that_was_run_again_counts_once(tmp_path, capsys):
    for name, accuracy in (("1", None), ("2", 0.8), ("3", 0.9), ("4", None)):
        made_up_run(tmp_path / name, "adda", 0, accuracy)
    (row,) = rows(collect([tmp_path]))
    assert (dict(row.values), len(row.repeated), row.absent) == ({0: 0.9}, 3, [])
    assert "seed 0 was run more than once" in capsys.readouterr().err


def test_a_method_that_lacks_a_key_is_still_the_baseline(tmp_path):
    for seed in (0, 1):
        made_up_run(tmp_path / f"s{seed}", "source_only", seed, 0.4)
        for gate in (0.3, 0.6):
            made_up_run(
                tmp_path / f"a{gate}{seed}",
                "adda",
                seed,
                gate,
                (f"method.gate={gate}",),
                {"method": {"gate": gate}},
            )
    table = rows(collect([tmp_path]))
    assert [(r.keys["method.gate"], r.gain.mean if r.gain else None) for r in table] == [
        (None, None),
        ("0.3", pytest.approx(-0.1)),
        ("0.6", pytest.approx(0.2)),
    ]
    assert [c.test.n for c in compare(table, "0.6", "0.3")] == [2]
    assert [c.keys["method.gate"] for c in compare(table, "adda", "source_only")] == ["0.3", "0.6"]


def test_a_pretrain_phase_stands_in_for_source_only(tmp_path):
    for seed in SEEDS:
        made_up_run(tmp_path / f"a{seed}", "adda", seed, 0.9 + seed / 100, pretrain=0.4)
        made_up_run(tmp_path / f"d{seed}", "dan", seed, 0.8)
    table = by_method(rows(collect([tmp_path])))
    assert table["source_only"].derived
    assert (table["adda"].gain.mean, table["dan"].gain.mean) == (
        pytest.approx(0.52),
        pytest.approx(0.4),
    )
    made_up_run(tmp_path / "s0", "source_only", 0, 0.5)
    table = by_method(rows(collect([tmp_path])))
    assert not table["source_only"].derived
    assert (table["adda"].gain.mean, table["adda"].gain.n) == (pytest.approx(0.4), 1)


def test_lower_is_better_where_it_is(sweep):
    table = by_method(rows(collect([sweep]), "target_test.log_loss"))
    assert (table["adda"].best, table["source_only"].best) == (True, False)
    assert "Lower is better" in formats.terminal(list(table.values()))


def test_a_metric_that_is_null_leaves_its_run_out(sweep):
    table = by_method(rows(collect([sweep]), "target_test.f1_macro"))
    assert (table["source_only"].n, len(table["source_only"].absent)) == (0, 5)
    assert "done, but target_test.f1_macro is not defined" in formats.terminal(list(table.values()))


def test_a_key_that_only_some_runs_set_tells_them_apart_even_from_null(tmp_path):
    for seed, limit in ((0, None), (1, 200)):
        words = (f"train.limit.samples={limit}",) if limit else ()
        made_up_run(
            tmp_path / str(seed),
            "source_only",
            seed,
            0.5,
            words,
            {"train": {"limit": {"samples": limit}}},
        )
    table = rows(collect([tmp_path]))
    assert sorted(row.keys["train.limit.samples"] for row in table) == ["200", "null"]


def test_the_student_alone_has_a_row(tmp_path):
    """Made up: two methods that distil, whose phase alone is the student taught by labels alone."""
    for seed in SEEDS:
        for method, score in (("kd", 0.7 + seed / 100), ("rkd", 0.65)):
            alone = {
                "name": "alone",
                "reads": ["target_labelled"],
                "metrics": {"target_test": {"accuracy": 0.6}},
            }
            phases = [{"name": "teach", "reads": ["target_train"]}, alone, {"name": "distil"}]
            words = (
                f"method.temperature={4 if method == 'kd' else 1}",
                "backbone@teacher=mlp",
                "teacher.hidden=[9]",
            )
            made_up_run(
                tmp_path / f"{method}{seed}",
                method,
                seed,
                score,
                words,
                phases=phases,
                uses_target_labels=True,
            )
    table = by_method(rows(collect([tmp_path])))
    assert table["student alone"].derived
    assert table["student alone"].n == len(SEEDS)
    assert not any(row.oracle for row in table.values())  # all learned from the same labels
    assert table["kd"].against == "student alone"
    assert (table["kd"].gain.mean, table["rkd"].gain.mean) == (
        pytest.approx(0.12),
        pytest.approx(0.05),
    )


def test_a_pretraining_on_labelled_target_images_is_no_plain_source_only(tmp_path):
    for seed in (0, 1):
        more = {"uses_target_labels": True, "sizes": {"target_labelled": 30}}
        made_up_run(
            tmp_path / str(seed),
            "dan",
            seed,
            0.9,
            ("data.target_labels=3",),
            {"data": {"target_labels": 3}},
            pretrain=0.6,
            **more,
        )
    found = by_method(rows(collect([tmp_path])))
    assert found["source_only"].derived
    assert found["source_only"].oracle


def test_pretrainings_with_and_without_target_labels_stand_apart(tmp_path):
    for seed in (0, 1):
        for method, read, base in (
            ("finetune", ["source_train"], 0.5),
            ("dann", ["source_train", "target_labelled"], 0.6),
        ):
            folder = made_up_run(
                tmp_path / f"{method}{seed}",
                method,
                seed,
                0.9,
                uses_target_labels=True,
                sizes={"target_labelled": 30},
            )
            result = json.loads((folder / "result.json").read_text())
            result["phases"] = [
                {"name": "pretrain", "reads": read, "metrics": {"target_test": {"accuracy": base}}},
                {"name": "adapt"},
            ]
            (folder / "result.json").write_text(json.dumps(result))
    table = rows(collect([tmp_path]))
    derived = {row.oracle: row.mean for row in table if row.derived}
    assert derived == pytest.approx({False: 0.5, True: 0.6})
    gains = {row.keys["method"]: row.gain.mean for row in table if row.gain}
    assert gains == pytest.approx({"finetune": 0.4, "dann": 0.3})


def test_where_all_learn_from_target_labels_none_is_an_oracle(
    tmp_path,
):
    for seed in (0, 1, 2):
        for method, accuracy in (("target_only", 0.6), ("finetune", 0.7), ("l2_sp", 0.72)):
            made_up_run(
                tmp_path / f"{method}{seed}",
                method,
                seed,
                accuracy + seed / 100,
                uses_target_labels=True,
            )
    made_up_run(tmp_path / "chosen", "lwf", 0, 0.9, uses_target_labels=True, selection="oracle")
    found = by_method(rows(collect([tmp_path])))
    assert [found[name].oracle for name in ("target_only", "finetune", "lwf")] == [
        False,
        False,
        True,
    ]
    assert found["target_only"].gain is None
    assert found["finetune"].gain.mean == pytest.approx(0.1)
    assert found["l2_sp"].best
    assert by_method(rows(collect([tmp_path]), against="finetune"))[
        "l2_sp"
    ].gain.mean == pytest.approx(0.02)
    with pytest.raises(
        UserError, match=r"--against fintune: no group is of this method\. Did you mean 'finetune'"
    ):
        rows(collect([tmp_path]), against="fintune")


def test_accuracy_and_an_error_in_one_table_keep_their_own_directions(tmp_path, capsys):
    scores = {
        ("glyphs", "maml"): 0.9,
        ("glyphs", "reptile"): 0.8,
        ("sinusoid", "maml"): 0.4,
        ("sinusoid", "reptile"): 1.1,
    }
    for (data, method), score in scores.items():
        metric = "accuracy" if data == "glyphs" else "mse"
        for seed in range(3):
            value = score + 0.01 * seed
            more = {"data": data, "metric": metric, "metrics": {"meta_test": {metric: value}}}
            made_up_run(tmp_path / f"{data}-{method}-{seed}", method, seed, value, **more)
    table = rows(collect([tmp_path]))
    assert {(r.keys["data"], r.keys["method"]) for r in table if r.best} == {
        ("glyphs", "maml"),
        ("sinusoid", "maml"),
    }
    _, out, _ = report(capsys, tmp_path)
    assert "91.0 ± 1.0 (3)" in out
    assert "0.410 ± 0.010 (3)" in out
    assert "of an error lower is better" in out
    _, out, _ = report(capsys, tmp_path, "--sort", "mean")
    assert out.index("0.410") < out.index("1.110")
    _, out, _ = report(capsys, tmp_path, "--paired", "maml", "reptile")
    assert "+10.0" in out
    assert "-0.700" in out
    content = json.loads(report(capsys, tmp_path, "--format", "json")[1])
    assert {(group["metric"], group["quantity"]) for group in content["groups"]} == {
        ("score", "accuracy"),
        ("score", "mse"),
    }
    # an adaptation run beside them hides none
    made_up_run(tmp_path / "other", "source_only", 0, 0.7)
    assert all(row.n for row in rows(collect([tmp_path])))


def test_no_star_between_settings_of_one_few_shot_learner(tmp_path):
    for rate in (0.1, 0.4):
        for seed in range(2):
            more = {"data": "glyphs", "metrics": {"meta_test": {"accuracy": rate}}}
            overrides = (f"method.inner.rate={rate}",)
            made_up_run(
                tmp_path / f"{rate}-{seed}",
                "maml",
                seed,
                rate,
                overrides,
                {"method": {"inner": {"rate": rate}}},
                **more,
            )
    for metric in ("score", "meta_test.accuracy"):
        table = rows(collect([tmp_path]), metric)
        assert len(table) == 2
        assert not any(row.best for row in table)


def test_the_a_distance_is_a_metric(tmp_path):
    made_up_run(tmp_path / "run", "dan", 0, 0.9, a_distance={"before": 1.9, "after": 0.4})
    (row,) = rows(collect([tmp_path]), "a_distance.after")
    assert row.mean == 0.4
    assert row.metric.lower_is_better


@pytest.mark.parametrize(
    ("a", "b"), [("1e-4", 0.0001), ("True", True), ("[1,2]", [1, 2]), ("3", 3.0), ("null", None)]
)
def test_a_value_as_typed_is_the_value_as_stored(a, b):
    assert normal(a) == normal(b)


# ---- statistics


@pytest.mark.parametrize("n", [2, 5, 6, 12])
def test_paired_tests_equal_scipys(n):
    a, b = np.random.default_rng(n).normal(size=(2, n))
    found = statistics.paired(dict(enumerate(a)), dict(enumerate(b)) | {99: 0.0})
    test = scipy.stats.ttest_rel(a, b)
    assert found.n == n
    assert found.t_p == pytest.approx(test.pvalue, rel=1e-9)
    assert [found.difference.low, found.difference.high] == pytest.approx(
        list(test.confidence_interval(0.95))
    )
    assert found.wilcoxon_p == (None if n < 6 else pytest.approx(scipy.stats.wilcoxon(a, b).pvalue))


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [
        ({}, {}, 0),
        ({0: 1.0}, {1: 1.0}, 0),
        ({0: 1.0}, {0: 0.5}, 1),
        (dict.fromkeys(range(7), 1.0),) * 2 + (7,),
    ],
)
def test_too_few_pairs_or_none_that_differ_give_no_p(a, b, n):
    found = statistics.paired(a, b)
    assert (found.n, found.t_p, found.wilcoxon_p) == (n, None, None)


def test_paired_says_when_there_are_too_few(sweep, capsys):
    code, out, _ = report(capsys, sweep, "--paired", "adda", "source_only")
    assert code == 0
    assert "adda − source_only" in out
    assert "Wilcoxon's test needs 6 pairs" in out
    assert "assume" in out


# ---- formats


def test_the_terminals_table_is_one_line_a_row_and_plain_when_piped(sweep):
    text = formats.terminal(rows(collect([sweep])))
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.strip().startswith("adda")]
    assert re.search(
        r"\d\d\.\d ± \d\.\d \(3\) \*  +\+\d\d\.\d \[\+\d\d\.\d, \+\d\d\.\d\] +2$", line
    ), line
    assert "adda fonts2digits seed 3: failed: Loss <b>diverged</b>\n" in text
    assert "adda fonts2digits seed 4: missing: never began" in text
    assert "target_only fonts2digits seed 4: interrupted" in text


def test_a_file_says_its_format_and_gets_no_colour(sweep, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for ending, head in (
        (".txt", "  method"),
        (".md", "| method"),
        (".tex", "% "),
        (".json", "{"),
        (".csv", "method,data"),
    ):
        file = tmp_path / f"report{ending}"
        assert report(capsys, sweep, "-o", file)[:2] == (0, "")
        assert file.read_text().startswith(head)
        assert "\x1b" not in file.read_text()
    code, _, err = report(capsys, sweep, "-o", tmp_path / "no" / "report.md")
    assert (code, "cannot be written" in err) == (2, True)


@pytest.mark.parametrize("width", [20, 60, 100])
def test_no_number_wraps_on_a_narrow_terminal(sweep, width):
    text = formats.terminal(
        rows(collect([sweep])), Console(width=width, force_terminal=True, color_system=None)
    )
    assert len(re.findall(r"\+\d\d\.\d \[\+\d\d\.\d, \+\d\d\.\d\]", text)) == 2


def test_markdown_has_as_many_cells_in_every_line(sweep, capsys):
    _, out, _ = report(capsys, sweep, "--format", "md")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "&lt;b>diverged" in out


def test_csv_is_raw_and_whole(sweep, capsys):
    _, out, _ = report(capsys, sweep, "--format", "csv")
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(out))}
    table = by_method(rows(collect([sweep])))
    assert {m: float(line["mean"]) for m, line in lines.items()} == {
        m: row.mean for m, row in table.items()
    }
    assert (
        lines["adda"]["failed"],
        lines["adda"]["missing"],
        lines["target_only"]["interrupted"],
    ) == ("1", "1", "1")
    _, out, _ = report(capsys, sweep, "--format", "csv", "--runs")
    single = list(csv.DictReader(io.StringIO(out)))
    assert len(single) == 15
    assert "Loss <b>diverged</b>\nand more" in [line["error"] for line in single]


def test_json_has_every_run_with_its_whole_error(sweep, capsys):
    _, out, _ = report(capsys, sweep, "--format", "json", "--paired", "adda", "source_only")
    content = json.loads(out, parse_constant=pytest.fail)
    runs = [run for group in content["groups"] for run in group["runs"]]
    assert len(runs) == 15
    assert "Loss <b>diverged</b>\nand more" in [run["error"] for run in runs]
    assert content["paired"][0]["test"]["n"] == 3


def test_latex_is_escaped(sweep, tmp_path):
    table = rows(collect([sweep]))
    text = formats.latex(grid.lay_out(table))
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert not re.search(r"(?<!\\)[_%#$](?!\\pm|\$)", "\n".join(body).replace(r"$\pm$", ""))
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body if line.endswith(r"\\")}) == 1
    assert (
        formats.latex_escape("a_b & 5 % {x} ~^\\")
        == r"a\_b \& 5 \% \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_pivot(sweep, tmp_path, capsys):
    for seed in SEEDS:
        made_up_run(tmp_path / "more" / str(seed), "adda", seed, 0.5, data="mnist2usps")
    code, out, _ = report(capsys, sweep, "--pivot", "method", "data", "--format", "csv")
    assert code == 0
    (head, *lines) = csv.reader(io.StringIO(out))
    assert head == ["method", "fonts2digits", "mnist2usps"]
    assert {line[0]: line[2] for line in lines} == {
        "source_only": "",
        "adda": "50.0 ± 0.0 (5)",
        "target_only": "",
    }
    assert report(capsys, sweep, "--pivot", "device", "data")[0] == 2


def test_sort_and_only_changed(sweep, capsys):
    _, out, _ = report(
        capsys, sweep, "--sort", "mean", "--only-changed", "--format", "csv", "--runs"
    )
    methods = list(dict.fromkeys(line["method"] for line in csv.DictReader(io.StringIO(out))))
    assert methods == ["target_only", "adda", "source_only"]
    _, out, _ = report(capsys, sweep, "--only-changed", "--format", "md")
    assert out.startswith("| method | accuracy, % |")


# ---- what is wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "target_test.acuracy"], "Did you mean 'target_test.accuracy'?"),
        (["--sort", "metod"], "Did you mean 'method'?"),
        (["--pivot", "method", "dat"], "Did you mean 'data'?"),
        (["--paired", "ada", "source_only"], "Did you mean 'adda'?"),
        (["--format", "htm"], "Did you mean 'html'?"),
        (["--runs", "--pivot", "method", "data"], "one at a time"),
        (["--what"], "unrecognized arguments: --what"),
    ],
)
def test_a_wrong_word_gets_the_nearest_right_one(sweep, capsys, words, said):
    code, out, err = report(capsys, sweep, *words)
    assert (code, out) == (2, "")
    assert said in err


def test_no_run_and_no_folder_end_with_2(tmp_path, capsys):
    assert report(capsys, tmp_path)[0] == 2
    assert report(capsys, tmp_path / "nothing")[0] == 2
    with pytest.raises(UserError, match="no run in"):
        collect([tmp_path])


@pytest.mark.parametrize(
    "content", ['{"status": "done"', "[1, 2]", "null", '{"status": "fine"}', "\x00", "[" * 100_000]
)
def test_damaged_and_foreign_files_are_skipped_with_a_warning(sweep, capsys, content):
    foreign = sweep / "foreign"
    foreign.mkdir()
    (foreign / "result.json").write_text(content)
    assert len(collect([sweep])) == 15
    assert str(foreign / "result.json") in capsys.readouterr().err
    (sweep / "5-adda-fonts2digits-s0" / "result.json").write_text(content)
    runs = {run.folder.name: run.status for run in collect([sweep])}
    assert runs["5-adda-fonts2digits-s0"] == "interrupted"


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "environment.json", "metrics.jsonl", ".hydra/overrides.yaml", "sweep.json"],
)
def test_other_damaged_files_do_not_end_the_report(sweep, capsys, name):
    (sweep / "5-adda-fonts2digits-s0" / name).write_text("{]\x00")
    assert report(capsys, sweep)[0] == 0
    assert report(capsys, sweep, "--format", "json")[0] == 0


def test_a_sweep_file_cannot_point_outside(sweep, capsys):
    jobs = [
        {"folder": folder, "choices": {"method": "x", "data": "y"}, "seed": 0}
        for folder in ("../elsewhere", "/etc", ".", "9")
    ]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    assert {run.folder.name for run in collect([sweep]) if run.choices["method"] == "x"} == {"9"}


def test_the_command_imports_no_torch(sweep):
    code = (
        "import sys; from tl_runner.cli import report as cli\n"
        "try: cli.main(sys.argv[1:])\nexcept SystemExit as ended: assert not ended.code\n"
        "heavy = {'torch', 'hydra', 'matplotlib', 'sklearn'} & set(sys.modules)\nassert not "
        "heavy, heavy"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(sweep)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )


# ---- a real sweep


def test_a_real_sweep(tl_run, tmp_path):
    ended = tl_run(*TINY, "-m", "method=source_only,adda", "train.optimizer.lr=1e-3,1e-2")
    assert ended.code == 0, ended.text
    runs = collect([tmp_path / "outputs"])
    assert len(runs) == 4
    table = rows(runs)
    assert [(r.keys["method"], r.keys["train.optimizer.lr"], r.n) for r in table] == [
        ("source_only", "0.001", 1),
        ("source_only", "0.01", 1),
        ("adda", "0.001", 1),
        ("adda", "0.01", 1),
    ]
    pretrained = by_method(rows([run for run in runs if run.choices["method"] == "adda"]))[
        "source_only"
    ]
    assert pretrained.derived
    by_key = {(r.keys["method"], r.keys["train.optimizer.lr"]): r for r in table}
    for row in rows([run for run in runs if run.choices["method"] == "adda"]):
        if row.derived:
            assert row.values == by_key["source_only", row.keys["train.optimizer.lr"]].values


def test_differences_of_counts_tie_as_they_should():
    """Made up: accuracies of 597 images, whose differences are equal but for the last bit."""
    from scipy.stats import wilcoxon

    hits, gained = [321, 570, 576, 351, 367, 359, 581, 450], [3, 2, 3, 3, -2, 2, 4, 1]
    b = {seed: h / 597 for seed, h in enumerate(hits)}
    a = {seed: (h + d) / 597 for seed, (h, d) in enumerate(zip(hits, gained, strict=True))}
    assert statistics.paired(a, b).wilcoxon_p == pytest.approx(float(wilcoxon(gained).pvalue))
    same = statistics.paired({0: 0.9, 1: 0.8}, {0: 0.8, 1: 0.7})
    assert same.t_p is None
    assert same.difference.mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ((0.90, 0.91, 0.92), ""),
        ((0.70, 0.71, 0.72), "negative transfer"),
        ((0.60, 0.82, 0.92), "loss not beyond chance"),
        ((0.75, 0.82, 0.95), "gain not beyond chance"),
    ],
)
def test_a_gain_that_is_not_above_zero_is_called_so(tmp_path, accuracies, said):
    for seed, accuracy in enumerate(accuracies):
        made_up_run(
            tmp_path / f"s{seed}", "source_only", seed, (0.80, 0.81, 0.82)[seed], selection="last"
        )
        made_up_run(tmp_path / f"d{seed}", "dan", seed, accuracy, selection="last")
    table = grid.lay_out(rows(collect([tmp_path])))
    remarks = [line[-1] for line in table.body] if table.columns[-1] == "remarks" else ["", ""]
    assert remarks == ["", said]
    assert "Weights by selection=last." in table.notes
