"""The same bits before and after: digests of a smoke run of every method, data set and backbone.

    OMP_NUM_THREADS=1 python scripts/guard.py table.json --data-root ~/data
    OMP_NUM_THREADS=1 python scripts/guard.py other.json --data-root ~/data --against table.json

Every choice of ``method=`` runs under ``debug=smoke`` on the data that it defaults to, every choice
of ``data=`` and ``backbone=`` with a method that suits it. Of each run the table holds the SHA-256
of the final weights, of ``metrics.jsonl`` without wall times, of the predictions, and of the names
in ``result.json``. A change that is to move code and no number leaves the table as it was. Files
that a data set reads are made up here, but for MNIST, USPS and Omniglot, which come from
``--data-root`` and are left out where they are not there.

Runs what is importable as ``tl_runner``: set PYTHONPATH to look at another checkout. The last line
is a digest of the table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

CONF = Path(__file__).resolve().parent.parent / "conf"
COMMON = ("debug=smoke", "device=cpu", "figures=false", "cache.phases=false", "seed=0")
TIMES = {"wall_s", "images_per_s", "train_s"}  # keys of metrics.jsonl that a clock decides
ON_DISK = {
    "mnist": "MNIST",
    "mnist2usps": "USPS",
    "usps2mnist": "USPS",
    "mnist2mnistm": "MNIST",
    "digits_multi": "USPS",
    "omniglot": "omniglot-py",
}
REAL = ("mnist", "usps", "omniglot")


def choices(group: str) -> list[str]:
    """Names of a group's shipped files; those that start with ``_`` are parts."""
    return sorted(file.stem for file in (CONF / group).glob("[!_]*.yaml"))


def built_from(group: str, name: str) -> set[str]:
    """A choice and every file of its group that it takes its defaults from."""
    content = yaml.safe_load((CONF / group / f"{name}.yaml").read_text(encoding="utf-8")) or {}
    parts = [
        str(p).partition("@")[0].removeprefix(f"/{group}/")
        for p in content.get("defaults", [])
        if isinstance(p, str)
    ]
    return {name}.union(
        *(built_from(group, part) for part in parts if (CONF / group / f"{part}.yaml").exists())
    )


def make_files(folder: Path) -> dict[str, list[str]]:
    """Write what data sets of files read; the words that name it, by choice of ``data=``."""
    from PIL import Image

    def pictures(place: Path, classes: Iterable[str], each: int) -> Path:
        draw = np.random.default_rng(0)
        for label, name in enumerate(classes):
            (place / name).mkdir(parents=True)
            for i in range(each):
                pixels = draw.integers(6 * label, 256, (36, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / name / f"{i}.png")
        return place

    def vectors(place: Path, shift: float, classes: bool) -> Path:
        draw = np.random.default_rng(int(10 * shift))
        x = draw.normal(size=(80, 12)) * 5 + 20 + shift
        y = np.arange(80) % 2
        x[:, 0] += 30 * y
        np.savez(place, x=x, y=np.array(["bad", "good"])[y] if classes else x[:, 1] + 0.5 * y)
        return place

    source = pictures(folder / "drawings", ("cat", "dog"), 12)
    target = pictures(folder / "photos", ("cat", "dog"), 10)
    things = pictures(folder / "things", [f"thing{i:02}" for i in range(24)], 10)
    for name in ("train/a.png", "val/b.png", "test/c.png"):
        pictures(folder / "backgrounds" / name.partition("/")[0], ["of"], 2)
        (folder / "backgrounds" / name.partition("/")[0] / "of" / "0.png").rename(
            folder / "backgrounds" / name
        )
    make_svhn(folder / "root" / "SVHN")
    make_cifar10(folder / "root")
    return {
        "folder": [f"data.source_dir={source}", f"data.target_dir={target}"],
        "folder_episodes": [
            f"data.target_dir={things}",
            "data.training.ways=null",
            "method=protonet",
        ],
        "arrays": [
            f"data.source_file={vectors(folder / 'a.npz', 0.0, True)}",
            f"data.target_file={vectors(folder / 'b.npz', 2.0, True)}",
        ],
        "numbers": [
            f"data.source_file={vectors(folder / 'c.npz', 0.0, False)}",
            f"data.target_file={vectors(folder / 'd.npz', 2.0, False)}",
        ],
        "mnist2mnistm": [f"data.photos={folder / 'backgrounds'}"],
        "svhn2mnist": ["data.target=digits", f"data.root={folder / 'root'}"],
        "cifar10": [f"data.root={folder / 'root'}"],
    }


def make_svhn(folder: Path) -> None:
    """SVHN's MATLAB files with random content."""
    from scipy.io import savemat
    from torchvision import datasets

    from tl_runner.data.domains.svhn import SVHN

    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    SVHN.sizes = (40, 20)  # type: ignore[assignment]
    datasets.SVHN.split_list = {k: [*v[:2], None] for k, v in datasets.SVHN.split_list.items()}
    for name, n in (("train", 40), ("test", 20)):
        x = draw.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        savemat(
            folder / f"{name}_32x32.mat",
            {"X": x, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]},
        )


def make_cifar10(root: Path) -> None:
    """CIFAR-10's pickles with random content."""
    from torchvision import datasets

    from tl_runner.data.domains.cifar10 import CIFAR10, FOLDER

    draw = np.random.default_rng(0)
    (root / FOLDER).mkdir(parents=True)
    CIFAR10.sizes = (100, 20)  # type: ignore[assignment]
    for name in ("train_list", "test_list"):
        setattr(
            datasets.CIFAR10, name, [[file, None] for file, _ in getattr(datasets.CIFAR10, name)]
        )
    datasets.CIFAR10.meta = {**datasets.CIFAR10.meta, "md5": None}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        content = {
            "data": draw.integers(0, 256, (20, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(20)],
        }
        (root / FOLDER / name).write_bytes(pickle.dumps(content))
    (root / FOLDER / "batches.meta").write_bytes(pickle.dumps({"label_names": [*CIFAR10.classes]}))


def commands(made: Mapping[str, list[str]], root: Path | None) -> dict[str, list[str]]:
    """Every run's own words, by a name for it."""
    found = {}
    for method in choices("method"):
        parts = built_from("method", method)
        words = [f"method={method}"]
        if method == "tradaboost_r2":
            words += ["data=arrays", "backbone=raw", *made["numbers"]]
        if parts & {"_meta", "_maml"}:
            words.append("method.task_batching=vmap")  # auto goes by a clock
        found[f"method={method}"] = words
    others = {  # data that the default method cannot learn from
        "cifar10": "finetune",
        "split_digits": "lwf",
        "mnist": "target_only",
        "multitask_digits": "multitask",
        "glyphs": "maml",
        "omniglot": "maml",
        "sinusoid": "maml",
    }
    for data in choices("data"):
        if data in ON_DISK and (root is None or not (root / ON_DISK[data]).exists()):
            print(
                f"data={data} is left out: {ON_DISK[data]} is not under --data-root",
                file=sys.stderr,
            )
            continue
        words = [f"data={data}", *made.get(data, [])]
        if data in ON_DISK:
            words.append(f"data.root={root}")
        if not any(word.startswith("method=") for word in words):
            words.append(f"method={others.get(data, 'adda')}")
        if "method=maml" in words:
            words.append("method.task_batching=vmap")
        found[f"data={data}"] = words
    for backbone in choices("backbone"):
        found[f"backbone={backbone}"] = [
            f"backbone={backbone}",
            "method=source_only" if backbone != "raw" else "method=coral",
        ]
    return found


def digest(parts: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 of named tensors, arrays or JSON values, in order of their names."""
    found = hashlib.sha256()
    for name, value in sorted(parts, key=lambda part: part[0]):
        found.update(f"{name}\n".encode())
        if isinstance(value, torch.Tensor):
            value = value.detach().contiguous().numpy()
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype} {value.shape}\n".encode())
            found.update(
                value.tobytes() if value.dtype != object else repr(value.tolist()).encode()
            )
        else:
            found.update(json.dumps(value, sort_keys=True).encode())
    return found.hexdigest()


def names(value: Any, prefix: str = "") -> Iterable[str]:
    """Dotted names of every key of nested dicts."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{prefix}{key}"
            yield from names(inner, f"{prefix}{key}.")


def digests(folder: Path) -> dict[str, str]:
    """What a run left, in four digests."""
    best = torch.load(folder / "checkpoints" / "best.pt", map_location="cpu", weights_only=True)
    last = torch.load(folder / "checkpoints" / "last.pt", map_location="cpu", weights_only=True)
    rows = [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    kept = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
    with np.load(folder / "predictions.npz") as predictions:
        arrays = {name: predictions[name] for name in predictions.files}
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "weights": digest(
            [(f"best {k}", v) for k, v in best["method"].items()]
            + [(f"last {k}", v) for k, v in last["method"].items()]
        ),
        "metrics": digest([("rows", kept)]),
        "predictions": digest(arrays.items()),
        "result": digest([("names", sorted(names(result)))]),
    }


def run(words: list[str], folder: Path) -> dict[str, str]:
    """One command in this process, and what it left."""
    from tl_runner.__main__ import main

    out = StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        try:
            main([*COMMON, *words, f"hydra.run.dir={folder}"])
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
    if code:
        return {"failed": f"exit code {code}: {out.getvalue().strip()[-400:]}"}
    return digests(folder)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="JSON file to write")
    parser.add_argument("--data-root", type=Path, help="holds MNIST, USPS and omniglot-py")
    parser.add_argument(
        "--against",
        type=Path,
        help="a table from before: every difference is listed, and the exit code is 1",
    )
    parser.add_argument(
        "--only", nargs="*", default=[], help="names such as method=dann; all without"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    table: dict[str, dict[str, str]] = {}
    root = given.data_root.resolve() if given.data_root else None
    before = json.loads(given.against.read_text()) if given.against else None
    began = time.perf_counter()
    given.table = given.table.resolve()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        todo = commands(make_files(Path(place) / "files"), root)
        for name, words in todo.items():
            if given.only and name not in given.only:
                continue
            table[name] = run(words, Path(place) / "runs" / name.replace("=", "-"))
            said = table[name].get("failed") or " ".join(
                f"{k} {v[:12]}" for k, v in table[name].items()
            )
            if before is not None:
                wrong = [
                    k
                    for k in {*table[name], *before.get(name, {})}
                    if table[name].get(k) != before.get(name, {}).get(k)
                ]
                said = f"DIFFERS in {', '.join(sorted(wrong))}: {said}" if wrong else "same"
            print(f"{name:32} {said}", flush=True)
    given.table.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    print(f"{len(table)} runs, {time.perf_counter() - began:.0f} s")
    print(hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest())
    compared = (
        {k: v for k, v in before.items() if not given.only or k in given.only}
        if before is not None
        else table
    )
    sys.exit(compared != table or any("failed" in row for row in table.values()))


if __name__ == "__main__":
    main()
