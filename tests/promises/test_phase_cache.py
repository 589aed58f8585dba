"""Phases that runs have in common: computed once, the same to the bit, and never mistaken for
another."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from support.covers import cases
from support.runs import TINY, results
from support.same_runs import CLOCKS, by_folder
from tl_runner.training import phase_key

FIRST = ("method=source_only", "cache.phases=true")


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["method"]


def shared(folder):
    return [
        "shared" in phase for phase in json.loads((folder / "result.json").read_text())["phases"]
    ]


def rows(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in lines]


@pytest.fixture
def run(tl_run, tmp_path):
    """``run(name, *words)``: the folder of a tiny run that shares its phases in
    ``tmp_path/cache``."""

    def make(name, *words):
        ended = tl_run(
            *TINY, f"cache.dir={tmp_path / 'cache'}", *words, f"hydra.run.dir={tmp_path / name}"
        )
        assert ended.code == 0, ended.text
        return tmp_path / name

    return make


def files(tmp_path):
    return sorted(p.stem for p in (tmp_path / "cache").glob("*.pt"))


def test_a_sweep_shares_its_pretraining_and_nothing_changes(tl_run, tmp_path):
    words = ("-m", *TINY, "method=source_only,adda,adda_paper", "seed=0")
    for name, more in (("shared", ()), ("apart", ("cache.phases=false",))):
        ended = tl_run(
            *words, *more, f"hydra.sweep.dir={tmp_path / name}", f"cache.dir={tmp_path / 'cache'}"
        )
        assert ended.code == 0, ended.text
    assert len(files(tmp_path)) == 1
    for name, folder in by_folder(tmp_path / "shared").items():
        other = tmp_path / "apart" / name
        assert shared(folder)[0] is not name.startswith("0-")
        assert not any(shared(other))
        assert rows(folder) == rows(other)
        for key, tensor in weights(folder).items():
            assert torch.equal(tensor, weights(other)[key]), key


def test_one_run_shares_only_when_asked(run, tmp_path):
    run("alone", "method=source_only")
    assert not (tmp_path / "cache").exists()


def test_a_whole_run_from_the_cache(run, tmp_path):
    one, two = run("one", *FIRST), run("two", *FIRST)
    assert (shared(one), shared(two)) == ([False], [True])
    assert rows(one) == rows(two)
    assert results(one)[0]["metrics"] == results(two)[0]["metrics"]
    assert results(two)[0]["images_per_s"] > 0


CHANGES = (
    "seed=1",
    "train.optimizer.lr=0.002",
    "train.batch_size=16",
    "train.epochs=1",
    "train.label_smoothing=0.2",
    "data.augment.rotate=3.0",
    "data.per_face=3",
    "data.jitter.shear=9.0",
    "backbone.batch_norm=false",
    "backbone.dropout=0.1",
    "train.limit.samples=150",
    "device.precision=bf16",
    "device.threads=2",
    "data=digits2fonts",
    "backbone.bn=domain_specific",
    "data.target_labels=2",
)


def test_a_changed_option_is_another_phase(tl_run, tmp_path, monkeypatch):
    """By the names that the phase would have in the cache; the runs end where these are asked
    for."""
    name_of, names = phase_key.key, []

    def noted(*given):
        names.append(name_of(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(phase_key, "key", noted)
    for number, change in enumerate(("seed=0", "seed=0", *CHANGES)):
        words = ("device.threads=1", *FIRST, change, f"hydra.run.dir={tmp_path / str(number)}")
        assert tl_run(*TINY, *words).code == 130, change
    assert names[0] == names[1]
    assert len({*names}) == 1 + len(CHANGES)


@pytest.mark.parametrize(
    "change",
    cases(["selection=im", "method=adda_paper", "backbone.bn=concat"], ("backbone.bn=concat",)),
)
def test_what_does_not_touch_a_phase_leaves_its_key(run, tmp_path, change):
    run("one", *FIRST)
    other = run("other", "method=adda", "cache.phases=true", change)
    assert shared(other) == [True, False]
    assert len(files(tmp_path)) == 1


def test_a_rule_that_chooses_an_epoch_trains_its_last_phase_itself(run, tmp_path):
    run("one", *FIRST)
    chosen = run("chosen", *FIRST, "selection=source_val")
    assert shared(chosen) == [False]


def test_a_changed_data_file_is_another_phase(tl_run, own_root, tmp_path):
    """One label of the source's files changed by hand."""
    words = (
        "method=source_only",
        "cache.phases=true",
        "data=mnist2usps",
        "data.protocol=sampled",
        f"data.root={own_root}",
    )
    tiny = [w for w in TINY if not w.startswith(("data.per_face", "train.limit"))]

    def command(name):
        folder = tmp_path / name
        assert (
            tl_run(*tiny, *words, f"cache.dir={tmp_path / 'cache'}", f"hydra.run.dir={folder}").code
            == 0
        )
        return shared(folder)

    assert command("one") == [False]
    assert command("two") == [True]
    labels = own_root / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    with np.load(tmp_path / "one" / "predictions.npz") as arrays:
        at = 8 + int(arrays["source_train/ids"][0])  # behind the file's header
    content[at] = (content[at] + 1) % 10
    labels.write_bytes(bytes(content))
    assert command("three") == [False]


@pytest.mark.parametrize("name", ["forward", "features"])
def test_a_method_with_a_forward_of_its_own_is_not_shared(run, tmp_path, monkeypatch, name):
    """Made up: an option that only the subclass reads."""
    (tmp_path / f"loud_{name}").mkdir()
    (tmp_path / f"loud_{name}" / "method.py").write_text(
        "from tl_runner.methods.adaptation.source_only import SourceOnly\n\n\nclass "
        "Loud(SourceOnly):\n"
        f"    def {name}(self, *given):\n        return 5 * super().{name}(*given)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    run("one", *FIRST, f"method.name=loud_{name}.method")
    assert not files(tmp_path)


def test_a_flipped_bit_is_seen(run, tmp_path):
    one = run("one", *FIRST)
    (entry,) = (tmp_path / "cache").glob("*.pt")
    state = torch.load(entry, weights_only=True)
    next(iter(state["networks"][0].values())).view(torch.int32).flatten()[3] ^= 1 << 20
    torch.save(state, entry)
    two = run("two", *FIRST)
    assert shared(two) == [False]
    assert rows(one) == rows(two)


@pytest.mark.parametrize("damage", cases([b"", b"nonsense", None], (b"nonsense", None)))
def test_a_damaged_entry_is_computed_again(run, tmp_path, damage):
    one = run("one", *FIRST)
    (entry,) = (tmp_path / "cache").glob("*.pt")
    if damage is None:  # well-formed, of other networks
        state = torch.load(entry, weights_only=True)
        state["networks"][0] = {
            name: tensor.new_zeros(3) for name, tensor in state["networks"][0].items()
        }
        torch.save(state, entry)
    else:
        entry.write_bytes(damage)
    two = run("two", *FIRST)
    assert shared(two) == [False]
    for key, tensor in weights(one).items():
        assert torch.equal(tensor, weights(two)[key]), key
    assert shared(run("three", *FIRST)) == [True]


def test_a_users_own_network_is_part_of_the_key(run, tmp_path, monkeypatch):
    """Made up: a method in a package without ``__init__``, whose file is changed between two
    runs."""
    import importlib
    import sys

    package = tmp_path / "own_pkg"
    package.mkdir()
    text = (
        "from tl_runner.methods.adaptation.source_only import SourceOnly\n\n\nclass "
        "Mine(SourceOnly):\n    scale = 1.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, scale in (("one", "1.0"), ("two", "1.0"), ("three", "2.0")):
        (package / "mine.py").write_text(text.replace("1.0", scale))
        sys.modules.pop("own_pkg.mine", None)
        importlib.invalidate_caches()
        phase_key.code.cache_clear()
        folder = run(name, *FIRST, "method.name=own_pkg.mine")
        assert shared(folder) == [name == "two"]


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(run, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert shared(run("one", *FIRST)) == [False]
