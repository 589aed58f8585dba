"""Data: splits, protocols, who sees which label. The MNIST and USPS files here are made up, in the
real formats."""

from __future__ import annotations

import bz2
import hashlib

import numpy as np
import pytest
import torch

from support.digit_tasks import load, sizes
from support.made_digits import make_root, shrink, write_idx
from tl_runner.data import rendered
from tl_runner.data.augment import Affine
from tl_runner.data.splits import see_labels
from tl_runner.data.task import Split, Task
from tl_runner.errors import DataError


@pytest.fixture
def made_root(tmp_path, monkeypatch):
    shrink(monkeypatch)
    return make_root(tmp_path / "made")


def test_full_protocol(made_root):
    task = load(made_root)
    assert sizes(task) == {
        "source_train": 54,
        "source_val": 6,
        "source_test": 20,
        "target_train": 50,
        "target_test": 15,
    }
    assert task.shape == (1, 28, 28)
    assert task.splits["target_train"].y is None
    train, val = (set(task.splits[s].ids.tolist()) for s in ("source_train", "source_val"))
    assert not train & val
    assert len(task.checksums) == 6
    assert sizes(load(made_root, val_fraction=0.0))["source_train"] == 60


def test_sampled_protocol_draws_by_the_seed_and_validates_on_the_rest(made_root):
    task, again, other = (
        load(made_root, protocol="sampled"),
        load(made_root, protocol="sampled"),
        load(made_root, protocol="sampled", seed=1),
    )
    assert sizes(task) == {
        "source_train": 20,
        "source_val": 2,
        "source_test": 20,
        "target_train": 15,
        "target_test": 15,
    }
    for split in ("source_train", "target_train"):
        assert torch.equal(task.splits[split].ids, again.splits[split].ids)
        assert not torch.equal(task.splits[split].ids, other.splits[split].ids)
    assert not set(task.splits["source_train"].ids.tolist()) & set(
        task.splits["source_val"].ids.tolist()
    )


def test_the_random_usps_split_is_drawn_once_from_the_pool(made_root):
    task = load(made_root, usps_split="random")
    assert sizes(task)["target_train"] == 53
    assert sizes(task)["target_test"] == 12
    train, test = (set(task.splits[s].ids.tolist()) for s in ("target_train", "target_test"))
    assert not train & test
    assert train | test == set(range(65))
    assert torch.equal(
        task.splits["target_test"].ids,
        load(made_root, usps_split="random", seed=9).splits["target_test"].ids,
    )


def test_usps_pixels_are_the_files_values_resized(made_root):
    with bz2.open(made_root / "USPS" / "usps.t.bz2", "rt") as file:
        first = np.array([float(v.split(":")[1]) for v in file.readline().split()[1:]]).reshape(
            1, 1, 16, 16
        )
    small = torch.tensor(((first + 1) / 2 * 255).astype(np.uint8)).float()
    expected = torch.nn.functional.interpolate(
        small, (28, 28), mode="bilinear", align_corners=False
    ).round()
    assert torch.equal(load(made_root).splits["target_test"].x[:1].float(), expected)
    assert load(made_root).splits["target_test"].y[:3].tolist() == [0, 1, 2]


def test_the_other_way_round(made_root):
    task = load(made_root, source="usps", target="mnist")
    assert task.name == "usps2mnist"
    assert sizes(task) == {
        "source_train": 45,
        "source_val": 5,
        "source_test": 15,
        "target_train": 60,
        "target_test": 20,
    }


def test_a_changed_file_is_read_again(made_root):
    before = load(made_root).splits["source_train"].x
    write_idx(
        made_root / "MNIST" / "raw" / "train-images-idx3-ubyte",
        np.full((60, 28, 28), 200, dtype=np.uint8),
    )
    assert not torch.equal(before, load(made_root).splits["source_train"].x)


@pytest.mark.parametrize(("budget", "labelled"), [(0, None), (2, 20), ("all", 50)])
def test_label_budgets(made_root, budget, labelled):
    task = load(made_root, target_labels=budget)
    assert task.splits["target_train"].y is None
    assert (len(task.splits["target_labelled"]) if labelled else None) == labelled
    assert ("target_labelled" in task.splits) == bool(labelled)


def test_a_budget_is_per_class():
    y = torch.tensor([0] * 5 + [1] * 2 + [2] * 9)
    split = Split(torch.full((16, 1, 2, 2), 255, dtype=torch.uint8), y, torch.arange(16))
    picked = see_labels(split, 3, torch.Generator().manual_seed(0))["target_labelled"]
    assert picked.y.bincount().tolist() == [3, 2, 3]
    assert torch.equal(split.y[picked.ids], picked.y)


@pytest.mark.parametrize(("source", "target"), [("fonts", "digits"), ("digits", "fonts")])
def test_embedded_digits(source, target):
    options = {
        "source": source,
        "target": target,
        "per_face": 3,
        "jitter": {"rotate": 5.0},
        "val_fraction": 0.1,
        "target_labels": 0,
    }
    from tl_runner.data.tasks import rendered as of_rendered

    task, again, other = (of_rendered.load(**options, seed=s) for s in (0, 0, 1))
    assert len(rendered.font_files()) >= 20
    assert task.splits["source_train"].y.bincount().min() > 40
    assert task.name == f"{source}2{target}"
    assert task.splits["target_train"].y is None
    digits = "target" if target == "digits" else "source"
    sizes = {name: len(split) for name, split in task.splits.items()}
    assert sum(n for name, n in sizes.items() if name.startswith(digits)) == 1797
    assert torch.equal(task.splits["source_train"].x, again.splits["source_train"].x)
    assert not torch.equal(task.splits["source_train"].x, other.splits["source_train"].x)
    assert torch.equal(task.splits[f"{digits}_test"].ids, other.splits[f"{digits}_test"].ids)
    for split in task.splits.values():
        assert split.x.amax() > 200
        assert split.x.amin() == 0


def test_every_face_draws_ten_different_digits():
    glyphs = rendered.render("0123456789")
    for face in glyphs:
        distance = torch.cdist(face.flatten(1), face.flatten(1)) + torch.eye(10) * 1e9
        assert distance.min() > 3
    assert (glyphs.flatten(2).amax(2) > 0.9).all()
    lit = glyphs > 0.3
    longer = torch.maximum(lit.any(2).sum(2), lit.any(3).sum(2))
    assert longer.min() >= 60  # each fills its square


def test_jitter_keeps_the_digit_inside():
    split = rendered.font_digits(2, Affine(), torch.Generator().manual_seed(0))
    assert split.x[:, :, :3].amax() == 0
    assert split.x[:, :, :, -3:].amax() == 0


def test_digits_drawn_before_are_those_that_are_drawn_anew():
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        first, second = (rendered.font_digits(1, Affine(rotate=9.0), generator) for _ in range(2))
        return first.x, second.x, torch.rand(3, generator=generator)

    rendered._font_digits.cache_clear()
    once, again, other = drawn(5), drawn(5), drawn(6)
    assert rendered._font_digits.cache_info().hits == 2
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], once[1])
    assert not any(torch.equal(a, b) for a, b in zip(once, other, strict=True))


def test_domains_must_share_shape_and_range():
    def split(high, side=4):
        return Split(
            torch.full((3, 1, side, side), high, dtype=torch.uint8),
            torch.zeros(3, dtype=torch.int64),
            torch.arange(3),
        )

    Task("fine", ("a",), {"source_train": split(255), "target_test": split(200)}, "")
    with pytest.raises(DataError, match="brightest"):
        Task("t", ("a",), {"source_train": split(255), "target_test": split(1)}, "")
    with pytest.raises(DataError, match="share one shape"):
        Task("t", ("a",), {"source_train": split(255), "target_test": split(255, 5)}, "")
    with pytest.raises(DataError, match="labels outside"):
        Task("t", (), {"source_train": split(255)}, "")


@pytest.mark.real_data
def test_the_real_sets_have_their_published_sizes(real_root):
    task = load(real_root, val_fraction=0.0)
    assert sizes(task) == {
        "source_train": 60000,
        "source_test": 10000,
        "target_train": 7291,
        "target_test": 2007,
    }
    assert task.splits["source_test"].y[:5].tolist() == [7, 2, 1, 0, 4]
    random = load(real_root, usps_split="random", val_fraction=0.0)
    assert (len(random.splits["target_train"]), len(random.splits["target_test"])) == (7438, 1860)
    drawn = load(real_root, protocol="sampled")
    assert (len(drawn.splits["source_train"]), len(drawn.splits["target_train"])) == (2000, 1800)


# SHA-256 of the ids that were drawn, by (source, target, protocol) at seed 1, when the recorded
# results were measured
DRAWN = {
    ("mnist", "usps", "full"): "ef614424365048ce",
    ("mnist", "usps", "sampled"): "93057990c08eeee6",
    ("usps", "mnist", "full"): "5ea76af986a63252",
    ("usps", "mnist", "sampled"): "8cc1b39d9ad03e5e",
}


@pytest.mark.real_data
@pytest.mark.parametrize("choice", DRAWN)
def test_the_draws_are_those_of_the_recorded_results(real_root, choice):
    source, target, protocol = choice
    task = load(real_root, source=source, target=target, protocol=protocol, seed=1)
    ids = torch.cat(
        [task.splits[name].ids for name in ("source_train", "source_val", "target_train")]
    )
    assert hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16] == DRAWN[choice]
