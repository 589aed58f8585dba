"""Files of tensors that others made: nothing of theirs is run, and what is wrong is said."""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tl_runner.errors import CheckpointError

# more than any state dict has: mappings that hold themselves, or one another many times over
LONGEST_NAME, MOST_ENTRIES = 300, 1_000_000
START = 200  # bytes that tell a text
SHOWN = 40  # characters of it
ALONE = "Whoever made it can save the weights alone: torch.save(model.state_dict(), 'weights.pth')."


def content_of(file: Path, where: str) -> Any:
    """Content of a ``.safetensors`` file or of one of PyTorch's, on the CPU.

    Args:
        file: is not trusted.
        where: the setting that names it, and its path, for messages.

    Raises:
        CheckpointError: it cannot be read, or holds more than tensors and plain values.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about how the file was written
            if file.suffix == ".safetensors":
                return load_file(file)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises nearly every kind for what is no file of its own
        raise CheckpointError(f"{where} cannot be read as weights{_why(file, error)}") from error


def tensors_of(content: Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    """Every tensor of nested mappings, by dotted name.

    Raises:
        CheckpointError: they are nested deeper, or hold more, than any state dict.
    """
    found: dict[str, Tensor] = {}
    inside = [("", iter(content.items()))]
    entries = 0
    while inside:
        prefix, rest = inside[-1]
        if (entry := next(rest, None)) is None:
            inside.pop()
            continue
        key, value = entry
        name = f"{prefix}{_word(key)}"
        entries += 1
        if len(name) > LONGEST_NAME or entries > MOST_ENTRIES:
            raise CheckpointError(
                f"{where} is no state dict: its mappings are nested in one another without end, "
                f"or hold more than {MOST_ENTRIES:,} entries ({name[:SHOWN]}...)."
            )
        if isinstance(value, Tensor):
            if not value.is_nested:  # has no shape, and no network of ours one such
                found[name] = value
        elif isinstance(value, Mapping):
            inside.append((f"{name}.", iter(value.items())))
    return found


def _word(key: object) -> str:
    """A key as a part of a dotted name; lists of layers have numbers."""
    return key if isinstance(key, str) else str(key) if key in range(MOST_ENTRIES) else "?"


def _why(file: Path, error: Exception) -> str:
    """The rest of the message for a file that cannot be read."""
    if isinstance(error, OSError):
        return f" ({error.strerror or error})."
    said = " ".join(str(error).split())
    if text := _beginning(file):
        return _of_text(text)
    if file.stat().st_size == 0:
        return ": the file is empty. Get it again."
    if "TorchScript" in said:
        return f": it is a TorchScript archive, a program and its weights. {ALONE}"
    if named := re.search(r"GLOBAL ([\w.]+)", said):
        return (
            f": it holds more than tensors ({named[1]}), and objects that a file brings are not "
            f"loaded. {ALONE}"
        )
    # the paragraph of torch around its reason is about how to load the file all the same
    reason = said.rpartition("WeightsUnpickler error: ")[2].partition(" Check the documentation")[0]
    return f" ({type(error).__name__}: {reason[:200]})."


def _beginning(file: Path) -> str:
    """First line of a file that is text; empty of any other."""
    with open(file, "rb") as opened:
        start = opened.read(START)
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError:
        return ""
    if not all(c.isprintable() or c in "\r\n\t" for c in text):
        return ""
    return next((line for line in text.strip().splitlines()), "")


def _of_text(line: str) -> str:
    """What to say of a text that begins with ``line``."""
    begins = f"(it begins with {line[:SHOWN]!r})"
    if line.startswith("version https://git-lfs"):
        return (
            f": this is a text file {begins}, which git-lfs leaves in place of a large file. "
            "Fetch the file itself: git lfs pull, in the repository that it is from."
        )
    if re.match(r"<(!doctype\s+html|html|head|body)\b", line, re.IGNORECASE):
        return (
            f": this is a web page {begins}, saved instead of the file. Get the file by its own "
            "link: on GitHub that of 'Download raw file', on Hugging Face the one with /resolve/."
        )
    return f": this is a text file {begins}, perhaps a server's answer. Get the file again."
