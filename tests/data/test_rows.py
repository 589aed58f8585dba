"""Pictures that are not copied: rows of a tensor say what a tensor of them says."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch

from support.pictures import made_up
from support.runs import results
from tl_runner.data import rows
from tl_runner.data.rows import Rows, chained, from_file, in_parts, moved, taken
from tl_runner.data.splits import Split
from tl_runner.training.frozen_features import digests
from tl_runner.training.phase_key import digest_of

CPU = torch.device("cpu")


@pytest.fixture
def both(monkeypatch):
    """(rows, a tensor of them)."""
    monkeypatch.setattr(rows, "LARGE", 1)
    monkeypatch.setattr(rows, "CHUNK", 4)
    base = torch.randint(256, (20, 3, 4, 4), dtype=torch.uint8)
    index = torch.randperm(20)[:13]
    return taken(base, index), base[index]


def test_rows_say_what_a_tensor_of_them_says(both):
    some, whole = both
    assert isinstance(some, Rows)
    assert (len(some), some.shape, some.dtype, some.ndim, some.device) == (
        *(13, whole.shape, whole.dtype, whole.ndim, whole.device),
    )
    mask = whole[:, 0, 0, 0] > 100
    for picked in (3, slice(2, 7), slice(None), [1, 5], torch.tensor([[4, 0], [2, 2]]), mask):
        assert torch.equal(some[picked], whole[picked])
    assert some.amax() == whole.amax()
    assert all(torch.equal(a, b) for a, b in zip(some.split(5), whole.split(5), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(some, whole, strict=True))
    assert torch.equal(torch.cat([*in_parts(some)]), whole)
    again = taken(some, torch.tensor([7, 1]))
    assert isinstance(again, Rows)
    assert again.base is some.base
    assert torch.equal(again[:], whole[[7, 1]])
    assert digests(some) == digests(whole)
    assert digest_of([{"x": some}]) == digest_of([{"x": whole}])
    with pytest.raises(AttributeError):
        some.float()


def test_rows_of_one_tensor_are_chained_uncopied(both):
    some, whole = both
    joined = chained([some, some.take(torch.arange(3))])
    assert isinstance(joined, Rows)
    assert torch.equal(joined[:], torch.cat([whole, whole[:3]]))
    mixed = chained([some, whole])
    assert isinstance(mixed, torch.Tensor)
    assert torch.equal(mixed, torch.cat([whole, whole]))


def test_a_split_is_not_copied_to_its_own_device(both):
    some, whole = both
    split = Split(some, None, torch.arange(13)).to(CPU, channels_last=True)
    assert isinstance(split.x, Rows)
    mapped = moved(whole, CPU, torch.channels_last)  # a tensor as it lies in a file
    assert isinstance(mapped, Rows)
    assert mapped.base is whole


def test_a_mapped_file_is_read_again_after_its_memory_was_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "LARGE", 1)
    monkeypatch.setattr(rows, "RESIDENT", 100)
    array = np.arange(4096 * 6, dtype=np.uint8).reshape(6, 1, 64, 64)
    np.save(tmp_path / "x.npy", array)
    x = from_file(np.load(tmp_path / "x.npy", mmap_mode="c"))
    mapped, given_back = x.base.mapped, []

    class Memory:
        def __init__(self, memory):
            self.memory = memory

        def madvise(self, advice):
            given_back.append(advice)
            self.memory.madvise(advice)

    mapped.memory = Memory(mapped.memory)
    for _ in range(2):
        assert torch.equal(torch.cat([*x.split(2)]), torch.from_numpy(array))
    assert given_back == [mmap.MADV_DONTNEED] * 6
    assert mapped.bytes == 0


@pytest.mark.parametrize(
    ("x", "index"),
    [
        (torch.zeros(5, 2, 1, 1), [0, 1]),  # vectors are few bytes
        (torch.zeros(5, 1, 2, 2, dtype=torch.uint8), [0, 1]),
    ],
)
def test_what_is_small_is_a_tensor(x, index):
    assert isinstance(taken(x, torch.tensor(index)), torch.Tensor)


def test_a_run_on_many_pictures_is_a_run_on_copies_to_the_bit(tl_run, tmp_path, monkeypatch):
    folders = {
        f"data.{domain}_dir": made_up(tmp_path / domain, ("cat", "dog"), 16, size)
        for domain, size in (("source", (20, 30)), ("target", (24, 26)))
    }
    found = []
    for name, large in (("copied", rows.LARGE), ("rows", 1)):
        monkeypatch.setattr(rows, "LARGE", large)
        ended = tl_run(
            *("data=folder", "data.size=12", "backbone=small_cnn", "debug=smoke", "device=cpu"),
            *("figures=false", f"cache.dir={tmp_path / name}", "method=dann"),
            *(f"{key}={folder}" for key, folder in folders.items()),
            f"hydra.run.dir={tmp_path / 'runs' / name}",
        )
        assert ended.code == 0, ended.text
        found.append(
            torch.load(tmp_path / "runs" / name / "checkpoints" / "last.pt", weights_only=True)
        )
    first, second = (one["method"] for one in found)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert len(results(tmp_path / "runs")) == 2
    metrics = [result["metrics"] for result in results(tmp_path / "runs")]
    assert metrics[0] == metrics[1]
