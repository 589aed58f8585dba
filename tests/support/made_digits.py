"""Made-up digit sets, tiny and random, in the formats of the real ones."""

from __future__ import annotations

import bz2
import pickle
import struct
import zipfile
from io import BytesIO

import numpy as np
from PIL import Image

from tl_runner.data.domains import usps
from tl_runner.data.domains.cifar10 import CIFAR10, FOLDER
from tl_runner.data.domains.mnist import MNIST
from tl_runner.data.domains.svhn import SVHN
from tl_runner.data.domains.usps import USPS
from tl_runner.data.tasks import omniglot

N = {MNIST: (60, 20), USPS: (50, 15), SVHN: (40, 20), CIFAR10: (100, 20)}
OMNIGLOT = (140, 20, 116)  # characters, drawings of each, characters for training and validation
SAMPLED = {MNIST: 20, USPS: 15, SVHN: 20, CIFAR10: 20}


def shrink(monkeypatch):
    """Let the readers expect the made-up sizes, and torchvision any content of SVHN's and
    CIFAR-10's files."""
    from torchvision import datasets

    for kind, sizes in N.items():
        monkeypatch.setattr(kind, "sizes", sizes)
        monkeypatch.setattr(kind, "sampled", SAMPLED[kind])
    monkeypatch.setattr(usps, "RANDOM_SPLIT", 12)
    for name, n in zip(("CHARACTERS", "DRAWINGS", "TRAINED"), OMNIGLOT, strict=True):
        monkeypatch.setattr(omniglot, name, n)
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(
            datasets.CIFAR10, name, [[file, None] for file, _ in getattr(datasets.CIFAR10, name)]
        )
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": None})
    monkeypatch.setattr(
        datasets.SVHN,
        "split_list",
        {k: [*v[:2], None] for k, v in datasets.SVHN.split_list.items()},
    )


def write_idx(path, array):
    kind = {1: 0x08}[array.itemsize]
    path.write_bytes(
        struct.pack(">BBBB", 0, 0, kind, array.ndim)
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


def make_root(root, seed=0):
    """MNIST idx files and USPS LIBSVM files with random content."""
    rng = np.random.default_rng(seed)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in zip(("train", "t10k"), N[MNIST], strict=True):
        write_idx(
            raw / f"{part}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        )
        write_idx(raw / f"{part}-labels-idx1-ubyte", (np.arange(n) % 10).astype(np.uint8))
    (root / "USPS").mkdir()
    for name, n in zip(("usps.bz2", "usps.t.bz2"), N[USPS], strict=True):
        rows = rng.uniform(-1, 1, (n, 256))
        lines = [
            f"{i % 10 + 1} " + " ".join(f"{j + 1}:{v:.6f}" for j, v in enumerate(row))
            for i, row in enumerate(rows)
        ]
        (root / "USPS" / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    return root


def make_svhn(root, seed=0):
    """SVHN's MATLAB files with random content; label 10 stands for the digit 0."""
    from scipy.io import savemat

    rng = np.random.default_rng(seed)
    (root / "SVHN").mkdir(parents=True)
    for name, n in zip(("train", "test"), N[SVHN], strict=True):
        x = rng.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        y = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]
        savemat(root / "SVHN" / f"{name}_32x32.mat", {"X": x, "y": y})


def make_cifar10(root, seed=0):
    """CIFAR-10's pickles with random content, as they were published: rows of 3,072 bytes, red,
    green, blue."""
    rng = np.random.default_rng(seed)
    (root / FOLDER).mkdir(parents=True)
    train, test = N[CIFAR10]
    for name, n in [(f"data_batch_{i}", train // 5) for i in range(1, 6)] + [("test_batch", test)]:
        content = {
            "data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(n)],
        }
        (root / FOLDER / name).write_bytes(pickle.dumps(content))
    (root / FOLDER / "batches.meta").write_bytes(pickle.dumps({"label_names": [*CIFAR10.classes]}))


def make_omniglot(root):
    """Omniglot's zip files: drawings of 105x105, black on white, of characters in two alphabets."""
    (root / omniglot.FOLDER).mkdir(parents=True)
    rng = np.random.default_rng(0)
    characters, drawings, trained = OMNIGLOT
    for part, own in zip(omniglot.PARTS, (range(trained), range(trained, characters)), strict=True):
        with zipfile.ZipFile(root / omniglot.FOLDER / f"{part}.zip", "w") as archive:
            for number in own:
                for i in range(drawings):
                    image = BytesIO()
                    Image.fromarray(rng.random((105, 105)) > 0.2).save(image, "PNG")
                    archive.writestr(
                        f"{part}/alphabet{number % 2}/character{number:03}/{number:04}_{i:02}.png",
                        image.getvalue(),
                    )


def write_photo(path, pixels):
    """``pixels``: uint8 (H, W, 3), or one colour for a photograph of 40 x 36."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(
        np.broadcast_to(np.asarray(pixels, dtype=np.uint8), (36, 40, 3))
        if np.ndim(pixels) == 1
        else pixels
    ).save(path)


def make_everything(root):
    """A data root that holds every set that needs files, and photographs where BSDS500 has its
    own."""
    make_svhn(make_root(root))
    make_cifar10(root)
    make_omniglot(root)
    rng = np.random.default_rng(1)
    for name in ("train/a.png", "train/b.jpg", "val/c.png", "test/d.png"):
        write_photo(
            root / "BSR/BSDS500/data/images" / name,
            rng.integers(0, 256, (48, 60, 3), dtype=np.uint8),
        )
    return root
