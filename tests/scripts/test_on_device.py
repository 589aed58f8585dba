"""The command that measures all that waits for a GPU: a part that fails or hangs costs no other."""

from __future__ import annotations

import pytest

from support.runs import ROOT


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import on_device

    return on_device


def test_a_part_ends_whatever_it_does(script):
    *said, ended = script.run(["-c", "print('| a |')"], 60)
    assert said == ["| a |"]
    assert ended.startswith("[exit 0,")
    assert script.run(["-c", "raise SystemExit(3)"], 60)[-1].startswith("[exit 3,")
    *said, ended = script.run(["-c", "import time; print('begun', flush=True); time.sleep(60)"], 3)
    assert said == ["begun"]
    assert ended.startswith("[stopped after 3 s,")


def test_its_parts_fit_the_time_and_their_scripts_are_there(script):
    for device in ("cuda", "cpu"):
        parts = script.parts(device)
        assert sum(most for _, _, most in parts) <= 660
        files = [words[0] for _, words, _ in parts if words[0] != "-m"]
        assert all((ROOT / "scripts").joinpath(file).is_file() for file in files)
