"""Twenty thousand files and everything that goes wrong with pictures: said, skipped, decoded once.
All made up here."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from tl_runner.data import pictures
from tl_runner.predict.run import Trained

pytestmark = pytest.mark.slow
FILES = 20_000


@pytest.fixture(scope="module")
def nasty(tmp_path_factory):
    """(the folder, its unreadable files)."""
    root = tmp_path_factory.mktemp("nasty") / "pictures"
    draw = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dög", "鳥")):
        (root / name / "deeper still").mkdir(parents=True)
        for i in range(FILES // 3):
            pixels = draw.integers(60 * label, 60 * label + 100, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(
                root / name / ("deeper still" if i % 100 == 0 else "") / f"{i}.bmp"
            )
    wide = draw.integers(0, 65536, (9, 7), dtype=np.uint16)
    noise = Image.fromarray(draw.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    cats = root / "cat"
    noise.convert("RGBA").save(cats / "alpha.png")
    Image.fromarray(wide).save(cats / "sixteen.png")
    Image.fromarray(wide).save(cats / "sixteen.tif")
    noise.convert("CMYK").save(cats / "print.jpg")
    noise.convert("P").save(cats / "palette.gif")
    noise.convert("LA").save(cats / "grey and alpha.png")
    Image.new("1", (1, 1)).save(cats / "dot.png")
    noise.save(cats / "ímagen número uno ☃.webp")
    noise.save(cats / "UPPER.JPG")
    whole = (cats / "UPPER.JPG").read_bytes()
    (cats / "cut short.jpg").write_bytes(whole[: len(whole) // 2])
    (cats / "empty.png").write_bytes(b"")
    (cats / "lie.png").write_text("no picture")
    for junk in ("notes.txt", "Thumbs.db", ".DS_Store"):
        (cats / junk).write_text("junk")
    (root / ".hidden").mkdir()
    (root / "no class").mkdir()
    return root, [cats / "cut short.jpg", cats / "empty.png", cats / "lie.png"]


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts: Counter = Counter()
    real = pictures.picture

    def counted(file, *rest):
        counts[file] += 1
        return real(file, *rest)

    monkeypatch.setattr(pictures, "picture", counted)
    return counts


def test_it_trains_or_says_what_is_wrong(nasty, tl_run, tmp_path, decoded):
    root, bad = nasty

    def command(*words, name="run"):
        common = [
            "data=folder",
            f"data.target_dir={root}",
            "data.target_labels=all",
            "data.size=8",
            "data.workers=0",
            "figures=false",
        ]
        train = [
            "device=cpu",
            "method=target_only",
            "backbone=small_cnn",
            "train.epochs=2",
            "train.steps_per_epoch=20",
        ]
        return tl_run(
            *common,
            *train,
            f"cache.dir={tmp_path / 'cache'}",
            f"hydra.run.dir={tmp_path / name}",
            *words,
        )

    ended = command()
    assert ended.code == 2
    assert "no picture (" in ended.err
    assert "in no class. Add some, or remove the folder." in ended.err
    assert not decoded
    (root / "no class").rmdir()

    ended = command()
    assert ended.code == 2
    for file in bad:
        assert str(file) in ended.err
    assert "3 of 20,010 pictures cannot be read" in ended.err
    assert "data.unreadable=skip" in ended.err
    assert not (tmp_path / "run" / "result.json").exists()
    assert set(decoded.values()) == {1}
    assert len(decoded) == 20_010

    ended = command("data.unreadable=skip")
    assert ended.code == 0, ended.err
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "3 unreadable ones skipped, 2 other files ignored" in result["protocol"]
    assert result["classes"] == ["cat", "dög", "鳥"]
    assert result["score"] > 0.9
    assert command("data.unreadable=skip", "seed=1", name="again").code == 0
    # neither the second epoch nor another run has decoded anything again
    assert set(decoded.values()) == {1}

    run = Trained(tmp_path / "run")
    found = run.predict(run.named([root / "cat"]))
    assert sorted(found.unreadable) == sorted(bad)
