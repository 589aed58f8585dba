"""The command: help, dry run, sweeps, the user's own configs, and a front end without torch."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tl_runner
from support.runs import ROOT, TINY, results
from tl_runner.config import checker as validate
from tl_runner.config import compose as plan
from tl_runner.config.paths import CONF_DIR


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["--cfg", "job"],
        ["methd=adda"],
        ["dry_run=true", "-m", "seed=0,1"],
    ],
)
def test_the_front_end_imports_no_torch(tmp_path, words):
    code = (
        "import sys; from tl_runner.cli import run as cli\n"
        "try: cli.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'torchvision', 'sklearn', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "outputs").exists()


def test_help_lists_every_choice_with_its_line(tl_run):
    ended = tl_run("--help")
    assert ended.code == 0
    for file in CONF_DIR.rglob("*.yaml"):
        if (
            file.parent != CONF_DIR
            and not file.name.startswith("_")
            and file.parent.name != "local"
        ):
            assert any(
                line.split()[:1] == [file.stem] and len(line.split()) > 3
                for line in ended.out.splitlines()
            ), file


def test_version(tl_run):
    assert tl_run("--version").out.strip() == f"tl-run {tl_runner.__version__}"


def test_cfg_prints_the_whole_config(tl_run):
    ended = tl_run("--cfg", "job", "method=source_only")
    assert ended.code == 0
    assert "name: source_only" in ended.out


def test_a_dry_run_lists_the_jobs_and_makes_nothing(tl_run, tmp_path):
    ended = tl_run(
        "dry_run=true", "-m", "method=source_only,adda", "data=mnist2usps,usps2mnist", "seed=0,1,2"
    )
    assert ended.code == 0
    assert "12 runs" in ended.out
    assert "method=adda data=usps2mnist seed=2" in ended.out
    assert not list(tmp_path.iterdir())


def test_a_key_of_one_choice_is_wrong_for_the_other_of_a_sweep(tl_run):
    ended = tl_run("dry_run=true", "-m", "method=source_only,adda", "method.adapt.gate=0.6")
    assert ended.code == 2
    assert "method.adapt.gate: method=source_only has no such key" in ended.err


def test_a_run_folder_holds_what_the_design_says(tl_run, tmp_path):
    words = [*(w for w in TINY if not w.startswith("figures")), "seed=3"]
    ended = tl_run(*words)
    assert ended.code == 0, ended.text
    (folder,) = (tmp_path / "outputs" / "shot" / "fonts2digits").iterdir()
    assert not set("=,") & set(str(folder.relative_to(tmp_path)))
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {
        ".hydra/config.yaml",
        ".hydra/hydra.yaml",
        ".hydra/overrides.yaml",
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "result.json",
        "predictions.npz",
        "embeddings.npz",
        "run.log",
        "figures/curves.png",
        "figures/confusion_target_test.png",
    }
    (result,) = results(tmp_path)
    assert {
        "status",
        "error",
        "score",
        "metric",
        "selection",
        "uses_target_labels",
        "protocol",
        "seed",
        "choices",
        "metrics",
        "wall_s",
        "images_per_s",
        "peak_memory_mb",
    } <= set(result)
    assert result["status"] == "done"
    assert result["seed"] == 3
    assert result["choices"] == {
        "data": "fonts2digits",
        "backbone": "lenet",
        "method": "shot",
        "device": "cpu",
    }
    assert result["score"] == result["metrics"]["target_test"]["accuracy"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all({"phase", "epoch", "split"} <= set(row) for row in rows)
    assert {row["phase"] for row in rows} == {"pretrain", "adapt"}
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"][1:] == words
    assert environment["packages"]["torch"]
    assert "source only" in ended.err
    assert str(folder) in ended.err


def test_predictions_agree_with_the_result(tl_run, tmp_path):
    import numpy as np

    assert tl_run(*TINY, f"hydra.run.dir={tmp_path / 'run'}").code == 0
    (result,) = results(tmp_path)
    with np.load(tmp_path / "run" / "predictions.npz") as arrays:
        for split, metrics in result["metrics"].items():
            p = arrays[f"{split}/probabilities"]
            assert np.allclose(p.sum(1), 1, atol=1e-5)
            assert len(p) == result["sizes"][split] == len(arrays[f"{split}/ids"])
            if "accuracy" in metrics:
                assert (p.argmax(1) == arrays[f"{split}/labels"]).mean() == pytest.approx(
                    metrics["accuracy"], abs=1e-6
                )
        assert "target_train/labels" not in arrays


def test_a_users_own_configs(tl_run, tmp_path):
    own = tmp_path / "my configs"
    (own / "method").mkdir(parents=True)
    (own / "method" / "mine.yaml").write_text(
        "# My variant.\ndefaults:\n  - adda\n  - _self_\nhidden: 11\n"
    )
    assert "mine                My variant." in tl_run("--config-dir", str(own), "--help").out
    ended = tl_run(
        "--config-dir", str(own), *TINY, "method=mine", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    assert result["choices"]["method"] == "mine"


def test_a_users_own_method_is_named_by_its_module(tl_run, tmp_path, monkeypatch):
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "__init__.py").write_text("")
    (tmp_path / "my_pkg" / "mine.py").write_text(
        "from tl_runner.methods.adaptation.source_only import SourceOnly\n\n\nclass "
        "Mine(SourceOnly):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert (
        tl_run(
            *TINY,
            "method=source_only",
            "method.name=my_pkg.mine",
            f"hydra.run.dir={tmp_path / 'run'}",
        ).code
        == 0
    )
    ended = tl_run(*TINY, "method=source_only", "method.name=my_pkg.other")
    assert ended.code == 2
    assert "my_pkg.other" in ended.err


def test_smoke_caps_the_loop_and_adds_no_keys():
    plain, smoke = (
        plan.check([*more, "method=adda"], sweep=False)[0].config for more in ([], ["debug=smoke"])
    )
    assert dict(validate.walk(plain)).keys() == dict(validate.walk(smoke)).keys()
    assert smoke["train"]["limit"] == {"epochs": 1, "steps": 3, "samples": 256}


def test_scripts_and_console_entry_point_exist():
    assert (ROOT / "scripts" / "bench_loop.py").is_file()
