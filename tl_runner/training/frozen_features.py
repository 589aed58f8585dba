"""Features of a frozen network, computed once for each picture or text, and kept.

They are kept in a folder by the network's content and the sample's, so all runs and sweeps share
them. A sample's features do not depend on those beside it, to the bit: texts are taken with others
of their length, and sizes of batches differ by multiples alone.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
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
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tl_runner.backbones._base import Backbone
    from tl_runner.backbones._frozen import FrozenNetwork
    from tl_runner.data.augment import Views
    from tl_runner.data.task import Task
    from tl_runner.training.device import Device

FORMAT = 3
# samples at once: the fastest on a CPU, of pictures of 224 x 224 and of texts of 30 tokens
PICTURES, TEXTS, ON_GPU = 16, 64, 256
# sizes of batches are multiples of it: of 1 or 3 texts a matrix product rounds in another order
MULTIPLE = 4
DIGEST = 16  # bytes
# splits to train on: the first that a task has standardises, and views are made of all of them
TRAINING = ("source_train", "target_train", "target_labelled", "meta_train")
AT_ONCE = 512 * 2**20  # bytes of samples between two times that features are kept


def on_features(
    task: Task,
    frozen: FrozenNetwork,
    device: Device,
    config: Mapping[str, Any],
    augment: Views | None = None,
) -> tuple[Task, str]:
    """The task with features for pictures, and in words what was computed.

    Mean and deviation of the training features, the source's where there is one, become
    ``frozen``'s own.

    Args:
        frozen: is moved to the device.
        config: names the folder that features are kept in, and the network's options, among them of
            how many random views of each training picture features are kept as well.
        augment: what these views are.
    """
    folder = Path(config["cache"]["dir"]).expanduser() / "features"
    views = config["backbone"].get("views") or 0
    samples = task.samples()
    x = {name: split.x for name, split in samples.items()}
    keys = {name: digests(own) for name, own in x.items()}
    keys_of_views = {
        (name, number): [_of_view(key, augment, number) for key in keys[name]]
        for name in x
        if name in TRAINING
        for number in range(views)
    }
    device.place(frozen)
    known = _Features(frozen.network, device, folder / key_of(frozen.network, device))
    known.add(x, keys)
    known.add({(name, n): x[name] for name, n in keys_of_views}, keys_of_views, augment)
    frozen.cpu().standardise(known.of(keys[next(name for name in TRAINING if name in x)]))

    def seen(name: str) -> Tensor | None:
        if not views or name not in TRAINING:
            return None
        kept = [frozen.scaled(known.of(keys_of_views[name, n])) for n in range(views)]
        return torch.stack(kept, 1)

    features = {
        name: replace(split, x=frozen.scaled(known.of(keys[name])), views=seen(name))
        for name, split in samples.items()
    }
    every = len({k for own in keys.values() for k in own})
    and_views = f" and {views} views of those to train on" if views else ""
    said = (
        f"{frozen.network.out_features:,} features of {every:,} samples{and_views}, computed once"
    )
    if before := known.asked - known.computed:
        said += f" ({before:,} of {f'{known.asked:,}' if views else 'them'} before)"
    scale = {"mean": frozen.mean.tolist(), "deviation": frozen.deviation.tolist()}
    checksums = {**task.checksums, "the frozen network": of_weights(frozen.network)}
    task = task.of(features, inputs=task.shape, scale=scale, checksums=checksums)
    return task, said


class _Features:
    """Features that a network makes, kept in a folder.

    Attributes:
        asked, computed: how many different ones were wanted, and how many of them were not there.
    """

    def __init__(self, network: Backbone, device: Device, folder: Path):
        self.network, self.device, self.folder = network, device, folder
        self.asked = self.computed = 0
        self._known = _load(folder)

    def add(
        self,
        samples: Mapping[Any, Tensor],
        keys: Mapping[Any, list[bytes]],
        augment: Views | None = None,
    ) -> None:
        """Compute and keep those of some samples, or of the views of them that their keys draw."""
        self.asked += len({key for own in keys.values() for key in own})
        for names, x in _blocks(samples, keys, {*self._known}):
            found = _computed(self.network, x, self.device, names, augment)
            _keep(self.folder, names, found)
            self._known |= dict(zip(names, found, strict=True))
            self.computed += len(names)

    def of(self, keys: Sequence[bytes]) -> Tensor:
        """Features (N, d) of some keys."""
        return torch.stack([self._known[key] for key in keys])


def _of_view(key: bytes, augment: Views | None, number: int) -> bytes:
    """The key of a sample's view: what the view is drawn by, too."""
    return blake2b(key + f"{augment!r} {number}".encode(), digest_size=DIGEST, key=b"view").digest()


def _blocks(
    samples: Mapping[Any, Tensor], keys: Mapping[Any, list[bytes]], known: set[bytes]
) -> Iterator[tuple[list[bytes], Tensor]]:
    """(keys, samples) of those that are not known, each once, about :data:`AT_ONCE` bytes at a
    time."""
    one = next(iter(samples.values()), torch.empty(0))[:1]
    most = max(1, AT_ONCE // max(1, one.numel() * one.element_size()))
    block: dict[bytes, Tensor] = {}
    for name, own in samples.items():
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
        # on a processor not how many threads there are, which changes no bit
        [device.torch.type, device.torch.type == "cpu" or device.describe()],
        [device.precision, device.channels_last],
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
def _computed(
    network: Backbone,
    x: Tensor,
    device: Device,
    keys: Sequence[bytes] = (),
    augment: Views | None = None,
) -> Tensor:
    """Features float32 (N, d) on the CPU, by the fastest form of the network.

    Args:
        keys: with ``augment``, of the views that are to be taken of the samples.
    """
    seeds = [int.from_bytes(key[:7], "big") for key in keys] if augment else []
    size = TEXTS if is_tokens(x) else PICTURES
    size = ON_GPU if device.torch.type == "cuda" else size
    fast = folded(network, pixels(x[:2].to(device.torch))).to(memory_format=torch.channels_last)
    found = torch.empty(len(x), network.out_features)

    @torch.inference_mode()  # which is a thread's own
    def compute(own: Tensor) -> None:
        part = x[own]
        more = -len(part) % MULTIPLE
        full = torch.cat([part, part[-1:].expand(more, *part.shape[1:])])
        batch = pixels(full.to(device.torch))
        if augment:
            drawn = [seeds[i] for i in own.tolist()]
            batch = augment.seeded(batch, [*drawn, *drawn[-1:] * more])
        batch = batch.contiguous(memory_format=torch.channels_last)
        with device.autocast():
            found[own] = fast(batch)[: len(part)].float().cpu()

    # the longest texts first, so that no thread is left with them at the end
    batches = [own for rows in reversed(alike(x)) for own in rows.split(size)]
    if device.torch.type == "cpu":
        _side_by_side(compute, batches)
    else:
        for own in batches:
            compute(own)
    return found


def _side_by_side(compute: Callable[[Tensor], None], batches: Sequence[Tensor]) -> None:
    """Compute batches on all threads, each batch on one: several threads of one matrix product
    round as their number and its size have it, and make poorer use of the cores."""
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
            for done in [pool.submit(compute, own) for own in batches]:
                done.result()
    finally:
        torch.set_num_threads(threads)


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
