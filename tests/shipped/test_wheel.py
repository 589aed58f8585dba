"""The built wheel away from the checkout: the embedded default runs, and a user's own configs are
found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile

import pytest

from support.runs import ROOT, TINY

pytestmark = pytest.mark.slow  # builds a wheel, which asks the registry for hatchling


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)],
        check=True,
        timeout=300,
    )
    (wheel,) = folder.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "conf").rglob("*.yaml")
        if p.parent.name != "local"
    }
    assert {f"tl_runner/{name}" for name in shipped} <= set(names)
    assert "tl_runner/report/page.css" in names
    assert not [n for n in names if n.startswith(("tests/", "outputs/", "conf/"))]
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def command(site, cwd, *words):
    env = {**os.environ, "PYTHONPATH": str(site)}
    code = (
        "import sys, tl_runner; assert 'site' in tl_runner.__file__; from tl_runner.cli.run "
        "import main; main(sys.argv[1:])"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_wheel_runs_elsewhere_with_its_own_configs(site, tmp_path):
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "small.yaml").write_text(
        "# Small.\ndefaults:\n  - adda\n  - _self_\nhidden: 8\n"
    )
    for name, words in (
        ("default", TINY),
        ("own", ("--config-dir", "mine", "method=small", *TINY)),
    ):
        ended = command(site, tmp_path, *words, f"hydra.run.dir={name}")
        assert ended.returncode == 0, ended.stderr
        assert json.loads((tmp_path / name / "result.json").read_text())["status"] == "done"
        assert json.loads((tmp_path / name / "environment.json").read_text())["git"] is None
