"""Features of a frozen network, computed once for each picture or text, and kept.

They are kept in a folder by the network's content and the sample's, so all runs and sweeps share
them. A sample's features do not depend on those beside it, to the bit: texts are taken with others
of their length, and sizes of batches differ by multiples alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from tl_runner.backbones._folding import folded
from tl_runner.backbones._texts import MULTIPLE as PADDED_TO
from tl_runner.data.rows import in_parts
from tl_runner.files import write_atomic
from tl_runner.training.batches import is_tokens, lengths, pixels
from tl_runner.training.phase_key import digest_of, processor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tl_runner.backbones._base import Backbone
    from tl_runner.backbones._frozen import FrozenNetwork
    from tl_runner.data.task import Task
    from tl_runner.training.device import Device

FORMAT = 2
# samples at once: the fastest on a CPU, of pictures of 224 x 224 and of texts of 30 tokens
PICTURES, TEXTS, ON_GPU = 16, 32, 256
# sizes of batches are multiples of it: of 1 or 3 texts a matrix product rounds in another order
MULTIPLE = 4
DIGEST = 16  # bytes
AT_ONCE = 512 * 2**20  # bytes of samples between two times that features are kept


def on_features(
    task: Task, frozen: FrozenNetwork, device: Device, config: Mapping[str, Any]
) -> tuple[Task, str]:
    """The task with features for pictures, and in words what was computed.

    Mean and deviation of the training features, the source's where there is one, become
    ``frozen``'s own.

    Args:
        frozen: is moved to the device.
        config: names the folder that features are kept in, and the network's options.
    """
    folder = Path(config["cache"]["dir"]).expanduser() / "features"
    keys = {name: digests(split.x) for name, split in task.splits.items()}
    device.place(frozen)
    key = key_of(frozen.network, device)
    known = _load(folder / key)
    computed = 0
    for names, x in _blocks({k: split.x for k, split in task.splits.items()}, keys, {*known}):
        found = _computed(frozen.network, x, device)
        _keep(folder / key, names, found)
        known |= dict(zip(names, found, strict=True))
        computed += len(names)
    features = {name: torch.stack([known[k] for k in own]) for name, own in keys.items()}
    first = "source_train" if "source_train" in features else "target_train"
    frozen.cpu().standardise(features[first])
    splits = {
        name: replace(split, x=frozen.scaled(features[name])) for name, split in task.splits.items()
    }
    every = len({k for own in keys.values() for k in own})
    said = f"{frozen.network.out_features:,} features of {every:,} samples, computed once"
    if computed < every:
        said += f" ({every - computed:,} of them before)"
    scale = {"mean": frozen.mean.tolist(), "deviation": frozen.deviation.tolist()}
    checksums = {**task.checksums, "the frozen network": of_weights(frozen.network)}
    return replace(task, splits=splits, inputs=task.shape, scale=scale, checksums=checksums), said


def _blocks(
    splits: Mapping[str, Tensor], keys: Mapping[str, list[bytes]], known: set[bytes]
) -> Iterator[tuple[list[bytes], Tensor]]:
    """(keys, samples) of those that are not known, each once, about :data:`AT_ONCE` bytes at a
    time."""
    one = next(iter(splits.values()))[:1]
    most = max(1, AT_ONCE // (one.numel() * one.element_size()))
    block: dict[bytes, Tensor] = {}
    for name, own in splits.items():
        rows = {k: i for i, k in enumerate(keys[name]) if k not in known}
        known |= {*rows}
        for some in torch.tensor([*rows.values()], dtype=torch.int64).split(most):
            block |= zip((keys[name][i] for i in some.tolist()), own[some], strict=True)
            if len(block) >= most:
                yield [*block], torch.stack([*block.values()])
                block = {}
    if block:
        yield [*block], torch.stack([*block.values()])


def keep(frozen: FrozenNetwork, file: Path, config: Mapping[str, Any]) -> None:
    """Write a network's weights into a run's folder; of many runs, one file on the disk."""
    if file.exists():
        return
    state = {name: tensor.contiguous() for name, tensor in frozen.network.state_dict().items()}
    digest = of_weights(frozen.network)
    own = Path(config["cache"]["dir"]).expanduser() / "frozen" / f"{digest}.safetensors"
    try:
        if not own.exists() or _digest_in_order(own, [*state]) != digest:
            write_atomic(own, save(state))
        file.parent.mkdir(parents=True, exist_ok=True)
        os.link(own, file)
    except (OSError, SafetensorError):  # another disk, or one without links
        write_atomic(file, save(state))


def digests(x: Tensor) -> list[bytes]:
    """Digest of each sample's content."""
    if is_tokens(x):  # how far the longest text of this data goes is not a text's content
        rows = np.ascontiguousarray(x.numpy()).reshape(len(x), -1)
        parts = [row[:n].tobytes() for row, n in zip(rows, lengths(x).tolist(), strict=True)]
        return [blake2b(part, digest_size=DIGEST, key=b"tokens").digest() for part in parts]
    found = []
    for some in in_parts(x):
        rows = np.ascontiguousarray(some.numpy())
        about = f"{rows.dtype}{rows.shape[1:]}".encode()[:64]
        found += [blake2b(row.tobytes(), digest_size=DIGEST, key=about).digest() for row in rows]
    return found


def key_of(network: Backbone, device: Device) -> str:
    """Name of a network's features: a digest of its weights, of its options and of the machine."""
    depends_on = [
        FORMAT,
        repr(network),
        dict(network.options),
        [torch.__version__, torch.backends.cpu.get_cpu_capability(), processor()],
        [device.torch.type, device.describe(), device.precision, device.channels_last],
    ]
    digest = blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=DIGEST)
    digest.update(of_weights(network).encode())
    return digest.hexdigest()


_known: WeakKeyDictionary[Backbone, str] = WeakKeyDictionary()


def of_weights(network: Backbone) -> str:
    """Digest of a frozen network's weights, which do not change."""
    if network not in _known:
        _known[network] = digest_of([network.state_dict()])
    return _known[network]


@torch.inference_mode()
def _computed(network: Backbone, x: Tensor, device: Device) -> Tensor:
    """Features float32 (N, d) on the CPU, by the fastest form of the network."""
    size = TEXTS if is_tokens(x) else PICTURES
    size = ON_GPU if device.torch.type == "cuda" else size
    fast = folded(network, pixels(x[:2].to(device.torch))).to(memory_format=torch.channels_last)
    found = torch.empty(len(x), network.out_features)
    for rows in alike(x):
        for own in rows.split(size):
            part = x[own]
            more = -len(part) % MULTIPLE
            full = torch.cat([part, part[-1:].expand(more, *part.shape[1:])])
            batch = pixels(full.to(device.torch)).contiguous(memory_format=torch.channels_last)
            with device.autocast():
                found[own] = fast(batch)[: len(part)].float().cpu()
    return found


def alike(x: Tensor) -> list[Tensor]:
    """Positions of the samples that a network takes to the same length: texts by their own, rounded
    up as the network does, and pictures all."""
    if not is_tokens(x):
        return [torch.arange(len(x))]
    steps = -(-lengths(x) // PADDED_TO)
    return [(steps == n).nonzero().squeeze(1) for n in steps.unique()]


def _digest_in_order(file: Path, names: list[str]) -> str:
    """Digest of a file's tensors in the order of ``names``; of none where one is missing."""
    found = load_file(file)
    return digest_of([{name: found[name] for name in names if name in found}])


def _load(folder: Path) -> dict[bytes, Tensor]:
    """Features by digest; a file that is damaged is left aside."""
    found: dict[bytes, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as content:
                keys, features = content.get_tensor("keys"), content.get_tensor("features")
                good = (content.metadata() or {}).get("digest") == _digest(keys, features)
        except (OSError, SafetensorError, ValueError):
            continue
        if good:
            names = [row.tobytes() for row in keys.numpy()]
            found |= dict(zip(names, features, strict=True))
    return found


def _keep(folder: Path, keys: list[bytes], features: Tensor) -> None:
    """Add features to a folder."""
    names = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).view(len(keys), -1)
    digest = _digest(names, features)
    content = save({"keys": names, "features": features}, {"digest": digest})
    try:
        write_atomic(folder / f"{digest}.safetensors", content)
    except OSError:  # a full disk costs time in the next run, not this one
        return


def _digest(keys: Tensor, features: Tensor) -> str:
    return digest_of([{"keys": keys, "features": features}])
