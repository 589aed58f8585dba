"""From the texts of a task to the tensors that its backbone takes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import torch

from tl_runner import plugins
from tl_runner.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tl_runner.backbones._texts import Reader
    from tl_runner.data.task import Task


def reader_of(options: Mapping[str, Any]) -> Reader | None:
    """The reader of a backbone's section; None of one that takes pictures or vectors."""
    module = plugins.module("backbones", options.get("module", options["name"]))
    make = getattr(module, "reader", None)
    return make(options) if make else None


def as_read(task: Task, options: Mapping[str, Any]) -> tuple[Task, Reader | None]:
    """The task with tensors for texts, and what read them; a task of pictures as it is.

    Args:
        options: the section of the backbone.

    Raises:
        ConfigError: the data are texts and the backbone takes none, or the other way round.
    """
    reader = reader_of(options)
    if bool(task.texts) is not bool(reader):
        what, takes = ("texts", "no texts") if task.texts else ("no texts", "texts")
        cure = "backbone=tfidf or backbone=text reads" if task.texts else "data=texts reads"
        raise ConfigError(
            [f"this data holds {what}, and backbone={options['name']} takes {takes}: {cure} them."]
        )
    if not reader:
        return task, None
    samples = task.samples()
    rows = {name: split.x.flatten().tolist() for name, split in samples.items()}
    training = {i for name, own in rows.items() if "_train" in name for i in own}
    every = sorted({i for own in rows.values() for i in own})
    texts = tuple(task.texts[i] for i in every)
    # of a reader that learns nothing, what it would learn from makes no difference
    learned = tuple(task.texts[i] for i in sorted(training)) if reader.learns else ()
    reader, x = _read(json.dumps(dict(options), sort_keys=True, default=str), texts, learned)
    place = {i: n for n, i in enumerate(every)}
    read = {
        name: replace(split, x=x[torch.tensor([place[i] for i in rows[name]])])
        for name, split in samples.items()
    }
    return task.of(read, reader=digest_of(reader)), reader


def digest_of(reader: Reader) -> str:
    """Digest of how a reader makes tensors of texts."""
    return blake2b(reader.rules(), digest_size=16).hexdigest()


@lru_cache(maxsize=2)  # the runs of a sweep read the same texts
def _read(options: str, texts: tuple[str, ...], learned: tuple[str, ...]) -> tuple[Reader, Tensor]:
    """A reader that has learned from some texts, and what it makes of ``texts``."""
    reader = reader_of(json.loads(options))
    assert reader
    reader.learn(learned)
    return reader, reader(texts)
