"""Any text encoder of the library transformers: BERT, MiniLM, RoBERTa and their kin."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tl_runner.backbones._base import Backbone
from tl_runner.backbones._texts import MULTIPLE, Reader
from tl_runner.backbones._weights import read
from tl_runner.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

PRETRAINED = "pretrained"
CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
PAD = -1  # behind a text's last token


class Text(Backbone):
    """Tokens (B, L, 1, 1), -1 behind the last of each text, to features (B, d).

    Args:
        name: a folder with ``config.json``, or an encoder of the hub, which is downloaded.
        pooling: ``mean`` of the tokens' last states, or ``cls``, the first token's.
        max_length: of the reader, :class:`Tokens`.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping
            them: less memory, more time.

    Raises:
        ConfigError: transformers is not installed, or the folder is no encoder's.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        *,
        name: str,
        pooling: str,
        max_length: int,
        gradient_checkpointing: bool,
    ):
        super().__init__()
        transformers = library()
        folder = folder_of(name)
        try:
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            try:
                self.model = transformers.AutoModel.from_config(config, add_pooling_layer=False)
            except TypeError:  # a model without one
                self.model = transformers.AutoModel.from_config(config)
            if gradient_checkpointing:
                self.model.gradient_checkpointing_enable()
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            line = " ".join(str(error).split())[:200]
            raise ConfigError(
                [f"backbone.name={name} cannot be built as a text encoder ({line})."]
            ) from error
        most = getattr(config, "max_position_embeddings", None) or shape[0]
        if shape[0] > most:
            raise ConfigError(
                [f"backbone.max_length={max_length}: {name} takes {most} tokens at most."]
            )
        self.pooling, self.pad = pooling, getattr(config, "pad_token_id", None) or 0
        self.out_features = config.hidden_size

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(1)
        there = tokens >= 0
        if not torch.compiler.is_compiling():  # a batch as long as its longest text
            longest = int(there.sum(1).amax())
            length = min(tokens.shape[1], -(-longest // MULTIPLE) * MULTIPLE)
            tokens, there = tokens[:, :length], there[:, :length]
        ids = torch.where(there, tokens, self.pad).long()
        states = self.model(input_ids=ids, attention_mask=there.long()).last_hidden_state
        if self.pooling == "cls":
            return states[:, 0]
        weights = there.unsqueeze(-1).to(states)
        return (states * weights).sum(1) / weights.sum(1)

    def translate(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """A file's tensors without the positions' numbers, which older versions stored."""
        return {k: v for k, v in weights.items() if not k.endswith("position_ids")}


class Tokens(Reader):
    """An encoder's own fast tokenizer.

    What its file says of padding and truncation is not heeded: some pad every text to 128.

    Args:
        name: as :class:`Text` has it.
        max_length: tokens of a text that are kept, with those that the encoder adds.

    Raises:
        ConfigError: there is no tokenizer.
    """

    learns = False

    def __init__(self, name: str, max_length: int):
        library()
        self.folder, self.max_length = folder_of(name), max_length
        self.take(self.folder)

    def learn(self, texts: Sequence[str]) -> None:
        """Nothing: a tokenizer comes trained."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        found = self.tokenizer.encode_batch_fast(list(texts))
        lengths = torch.tensor([len(one) for one in found])
        rows = torch.full((len(found), max(1, int(lengths.amax()))), PAD, dtype=torch.int32)
        flat = torch.tensor([i for one in found for i in one.ids], dtype=torch.int32)
        rows[torch.arange(rows.shape[1]) < lengths[:, None]] = flat
        return rows[:, :, None, None]

    def files(self) -> Mapping[str, bytes]:
        return {
            TOKENIZER: self.tokenizer.to_str().encode(),
            CONFIG: (self.folder / CONFIG).read_bytes(),
        }

    def rules(self) -> bytes:
        return self.tokenizer.to_str().encode()

    def take(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        try:
            self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises none of its own
            raise ConfigError(
                [
                    f"backbone.name={folder}: {TOKENIZER} cannot be read ({error}). Of an older "
                    "tokenizer, transformers' AutoTokenizer.from_pretrained(folder)"
                    ".save_pretrained(folder) writes it."
                ]
            ) from error
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.max_length)


def reader(options: Mapping[str, Any]) -> Reader:
    """The reader of a section of the config."""
    return Tokens(options["name"], options["max_length"])


def published(name: str, weights: str) -> dict[str, Tensor]:
    """The state dict that lies in an encoder's folder.

    Raises:
        ConfigError: there is none, or other weights are asked for.
        CheckpointError: it cannot be read.
    """
    folder = folder_of(name)
    files = [folder / file for file in WEIGHTS if (folder / file).is_file()]
    if weights != PRETRAINED or not files:
        there = f"has no {' or '.join(WEIGHTS)}" if weights == PRETRAINED else "is no such file"
        raise ConfigError(
            [
                f"backbone.weights={weights}: {folder if weights == PRETRAINED else 'there'} "
                f"{there}. {PRETRAINED} are the weights in the encoder's folder; null is random."
            ]
        )
    return read(files[0])


def library() -> ModuleType:
    """The package transformers.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            [
                f"backbone=text needs the package transformers ({error}): "
                "pip install 'tl-run[text]'. backbone=tfidf does without."
            ]
        ) from error
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def folder_of(name: str) -> Path:
    """The folder of an encoder; of one of the hub its download.

    Raises:
        ConfigError: there is no such folder, or it cannot be downloaded.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (folder / CONFIG).is_file() and _is_object(folder / CONFIG):
            return folder
        raise ConfigError([f"backbone.name={name}: the folder has no readable {CONFIG}."])
    library()
    from huggingface_hub import snapshot_download

    wanted = [CONFIG, TOKENIZER, *WEIGHTS[:1]]
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # of several libraries, each with its own
        line = " ".join(str(error).split())[:160]
        raise ConfigError(
            [
                f"backbone.name={name}: there is no such folder, and it could not be downloaded "
                f"({line}).\n  Fetch {', '.join(wanted)} of https://huggingface.co/{name} by hand "
                "into a folder and give its path. backbone=tfidf needs no network."
            ]
        ) from error


def _is_object(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError, RecursionError):
        return False
