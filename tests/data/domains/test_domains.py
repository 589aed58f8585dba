"""Domains and how they are put together; the data files here are made up, in the real formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import loadmat, savemat

from support.digit_tasks import load, sizes
from support.runs import TINY, results
from tl_runner.data.images import fit, fitted
from tl_runner.data.splits import Split, joined
from tl_runner.errors import ConfigError, DataError
from tl_runner.training import device as devices
from tl_runner.training.batches import Batches

FONTS = {"per_face": 1, "jitter": {"rotate": 5.0}}


@pytest.fixture
def root(own_root):
    return own_root


# ---- several sources, several targets


def test_several_sources(root):
    task = load(root, source=["fonts", "mnist"], **FONTS)
    assert (task.name, task.sources, task.targets) == (
        "fonts and mnist to usps",
        ("fonts", "mnist"),
        ("usps",),
    )
    assert sizes(task) == {
        "source_train": 189 + 54,
        "source_val": 21 + 6,
        "source_test": 230,
        "target_train": 50,
        "target_test": 15,
    }
    assert task.protocol.startswith("full: 189 rendered, 54 MNIST and 50 USPS training images")
    for name in ("source_train", "source_val", "source_test"):
        assert (
            task.splits[name].domain.bincount().tolist()
            == {"source_train": [189, 54], "source_val": [21, 6], "source_test": [210, 20]}[name]
        )
    assert task.splits["target_train"].domain is None

    alone = load(root, source="mnist").splits["source_test"]
    mnist = task.splits["source_test"]
    mnist = mnist.take((mnist.domain == 1).nonzero()[:, 0])
    assert torch.equal(mnist.x, alone.x)
    assert torch.equal(mnist.y, alone.y)
    assert torch.equal(mnist.ids, alone.ids)


def test_several_targets(root):
    task = load(root, source="mnist", target=["digits", "usps"], target_labels=2)
    assert task.name == "mnist to digits and usps"
    assert task.splits["target_train"].y is None
    assert task.splits["target_train"].domain.tolist() == [0] * 1200 + [1] * 50
    labelled = task.splits["target_labelled"]
    assert (10 * labelled.domain + labelled.y).bincount().tolist() == [2] * 20
    union, parts = (
        task.splits["target_test"],
        [task.splits[f"target_test_{name}"] for name in ("digits", "usps")],
    )
    assert union.domain.tolist() == [0] * 597 + [1] * 15
    assert torch.equal(union.x, torch.cat([part.x for part in parts]))
    assert torch.equal(union.y, torch.cat([part.y for part in parts]))
    assert all(part.domain is None for part in parts)
    assert "target_test_usps" not in load(root).splits


def test_one_name_and_a_list_of_one_are_the_same(root):
    one, listed = load(root), load(root, source=["mnist"], target=["usps"])
    assert one.name == listed.name == "mnist2usps"
    assert all(torch.equal(split.x, listed.splits[name].x) for name, split in one.splits.items())


def test_a_sample_of_a_small_set_leaves_some_to_validate_on(root):
    task = load(root, source="fonts", target="digits", protocol="sampled", **FONTS)
    assert sizes(task)["source_train"] == 189
    assert sizes(task)["source_val"] == 21
    assert sizes(task)["target_train"] == 1200
    train, val = (set(task.splits[name].ids.tolist()) for name in ("source_train", "source_val"))
    assert not train & val


def test_the_domain_goes_where_its_samples_go():
    def split(n, labels=True):
        return Split(
            torch.full((n, 1, 2, 2), n, dtype=torch.uint8),
            torch.arange(n) if labels else None,
            torch.arange(n),
        )

    both = joined([split(2), split(3)])
    assert both.domain.tolist() == [0, 0, 1, 1, 1]
    assert both.take(torch.tensor([4, 0])).domain.tolist() == [1, 0]
    assert (
        both.to(torch.device("cpu")).domain.tolist()
        == both.without_labels().domain.tolist()
        == both.domain.tolist()
    )
    assert joined([split(2), split(3, labels=False)]).y is None
    alone = split(2)
    assert joined([alone]) is alone


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": ["mnist", "usps"]}, "both name usps"),
        ({"target": ["usps", "usps"]}, "usps twice"),
        ({"source": []}, "no domain"),
        ({"source": "mnits"}, "Did you mean 'mnist'"),
        ({"source": "fonts", "per_face": 2}, "needs data.jitter"),
    ],
)
def test_domains_that_cannot_be(root, changes, said):
    with pytest.raises(ConfigError, match=said):
        load(root, **changes)


def test_a_domain_of_the_users_own(root, tmp_path, monkeypatch):
    (tmp_path / "my_digits.py").write_text(
        "import torch\nfrom tl_runner.data.domain import Domain\nfrom tl_runner.data.task import "
        "Split\n\n\n"
        "class Mine(Domain):\n    title = 'mine'\n\n    def __init__(self, shade):\n        "
        "self.shade = shade\n\n"
        "    def read(self, root, download, seed):\n        x = torch.full((20, 3, 9, 9), "
        "self.shade, dtype=torch.uint8)\n"
        "        part = Split(x, torch.arange(20) % 10, torch.arange(20))\n        return part, "
        "part, {}\n"
    )
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_digits.py").rename(tmp_path / "my_package" / "shades.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    task = load(root, source="my_package.shades", shade=200)
    assert task.splits["source_test"].x.unique().tolist() == [200]
    assert task.shape == (1, 28, 28)


# ---- sizes and channels


def random_images(*shape):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_an_image_that_fits_is_not_touched():
    split = Split(random_images(3, 1, 28, 28), None, torch.arange(3))
    assert fitted(split, 28, 1) is split


def test_grey_is_repeated_and_colour_becomes_its_luma():
    grey, colour = random_images(2, 1, 5, 5), random_images(2, 3, 5, 5)
    assert torch.equal(fit(grey, (3, 5, 5)), torch.cat([grey] * 3, 1))
    luma = fit(colour, (1, 5, 5))
    for n in range(2):
        for i in range(5):
            for j in range(5):
                r, g, b = colour[n, :, i, j].tolist()
                assert luma[n, 0, i, j].item() == round(0.299 * r + 0.587 * g + 0.114 * b)


def test_enlarging_is_bilinear():
    small = random_images(1, 1, 4, 4)
    large = fit(small, (1, 10, 10))

    def at(i, j):
        return small[0, 0, min(max(i, 0), 3), min(max(j, 0), 3)].item()

    for i in range(10):
        for j in range(10):
            y, x = (max((k + 0.5) * 0.4 - 0.5, 0.0) for k in (i, j))
            u, v = y - int(y), x - int(x)
            exact = sum(
                wi * wj * at(int(y) + di, int(x) + dj)
                for di, wi in ((0, 1 - u), (1, u))
                for dj, wj in ((0, 1 - v), (1, v))
            )
            assert abs(large[0, 0, i, j].item() - exact) < 0.501


def test_shrinking_averages_as_pil_does():
    colour = random_images(2, 3, 32, 32)
    small = fit(colour, (3, 12, 12))
    for n in range(2):
        pil = Image.fromarray(colour[n].permute(1, 2, 0).numpy()).resize(
            (12, 12), Image.Resampling.BILINEAR
        )
        assert (
            small[n].permute(1, 2, 0).int() - torch.tensor(np.array(pil)).int()
        ).abs().max() <= 1
    assert fit(
        torch.full((1, 3, 32, 32), 255, dtype=torch.uint8), (1, 28, 28)
    ).unique().tolist() == [255]


def test_every_domain_is_brought_to_the_size_and_channels(root):
    task = load(
        root,
        source=["fonts", "svhn", "mnist"],
        target=["usps", "digits"],
        size=20,
        channels=3,
        **FONTS,
    )
    assert {tuple(split.x.shape[1:]) for split in task.splits.values()} == {(3, 20, 20)}
    assert task.protocol.endswith("20x20 in colour")
    assert load(root, source="svhn").shape == (1, 28, 28)


# ---- SVHN


def test_svhn(root):
    task = load(root, source="svhn", target="mnist", size=32, channels=3, val_fraction=0.0)
    assert sizes(task) == {
        "source_train": 40,
        "source_test": 20,
        "target_train": 60,
        "target_test": 20,
    }
    train = task.splits["source_train"]
    # the files say 10 for the digit 0
    assert train.y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 4
    x = loadmat(root / "SVHN" / "train_32x32.mat")["X"]
    for n in (0, 17, 39):
        assert torch.equal(train.x[n], torch.tensor(x[..., n]).permute(2, 0, 1))
    assert "SVHN/test_32x32.mat" in task.checksums


def other_content(file):
    savemat(file, {"X": np.zeros((32, 32, 3, 40), np.uint8)})


def other_shape(file):
    savemat(file, {"X": np.zeros((16, 16, 3, 40), np.uint8), "y": np.ones((40, 1), np.uint8)})


def fewer(file):
    savemat(file, {"X": np.zeros((32, 32, 3, 39), np.uint8), "y": np.ones((39, 1), np.uint8)})


def cut(file):
    file.write_bytes(file.read_bytes()[:5000])


BROKEN = {other_content: "damaged", other_shape: "3x32x32", fewer: "cut short", cut: "damaged"}


@pytest.mark.parametrize("damage", BROKEN, ids=lambda d: d.__name__)
def test_broken_svhn_files(root, damage):
    damage(root / "SVHN" / "train_32x32.mat")
    with pytest.raises(DataError, match=BROKEN[damage]) as error:
        load(root, source="svhn")
    assert "train_32x32.mat" in str(error.value)


def test_svhn_files_with_another_md5_are_not_read(root, monkeypatch):
    from torchvision import datasets

    monkeypatch.setattr(datasets.SVHN, "split_list", {"train": ["", "train_32x32.mat", "0" * 32]})
    with pytest.raises(DataError, match="damaged"):
        load(root, source="svhn")


def test_a_failed_download_of_svhn_says_what_was_wanted(tmp_path, monkeypatch):
    from torchvision import datasets

    def fail(*_, **__):
        raise RuntimeError("no route to host")

    monkeypatch.setattr(datasets.SVHN, "download", fail)
    with pytest.raises(
        DataError, match=r"download of SVHN failed: no route to host\n.*test_32x32.mat"
    ):
        load(tmp_path, source="svhn", download=True)


def test_a_batch_says_which_source_each_image_is_from(root):
    task = load(root, source=["fonts", "mnist"], target="usps", **FONTS)
    device = devices.resolve(
        {
            "name": "cpu",
            "precision": "fp32",
            "channels_last": "auto",
            "compile": False,
            "cuda_graphs": False,
            "threads": None,
        }
    )
    batches = Batches(
        {"source": task.splits["source_train"], "target": task.splits["target_train"]},
        64,
        2,
        device,
        None,
        (0, "adapt"),
    )
    batches.begin_epoch(0)
    batch = batches[1]
    assert set(batch.source.domain.tolist()) == {0, 1}
    assert torch.equal(batch.source.domain, task.splits["source_train"].domain[batch.source.index])
    assert batch.target.domain is None


def test_each_target_of_several_is_scored_and_shown(tl_run, tmp_path, made_up_root):
    words = (
        *(w for w in TINY if "limit" not in w),
        "data=digits_multi",
        "data.source=fonts",
        "data.target=[digits,usps]",
    )
    ended = tl_run(
        *words, "method=dann", f"data.root={made_up_root}", f"hydra.run.dir={tmp_path / 'run'}"
    )
    assert ended.code == 0, ended.text
    (result,) = results(tmp_path)
    each = {
        name: result["metrics"][f"target_test_{name}"]["accuracy"] for name in ("digits", "usps")
    }
    sizes = {name: result["sizes"][f"target_test_{name}"] for name in each}
    pooled = sum(each[name] * sizes[name] for name in each) / sum(sizes.values())
    assert result["score"] == pytest.approx(pooled)
    for name, accuracy in each.items():
        assert f"{100 * accuracy:.1f} {name}" in ended.text
