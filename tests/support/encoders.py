"""A tiny text encoder in a folder, as transformers saves one, and small tables of texts."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

WORDS = {
    "good": ["fine", "lovely", "great", "bright", "warm", "sweet"],
    "bad": ["poor", "awful", "grey", "cold", "bitter", "dull"],
    "plain": ["the", "film", "book", "a", "was", "is", "of", "and"],
}


def make_encoder(folder: Path, width: int = 16, layers: int = 2) -> Path:
    """A BERT of random weights with a vocabulary of :data:`WORDS`, and its fast tokenizer.

    The tokenizer's file asks for padding to 12 tokens and cuts at 6, as published ones do too.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(w for kind in WORDS.values() for w in kind)]
    vocabulary = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(6)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def sentences(n: int, seed: int, classes: Sequence[str] = ("bad", "good")) -> list[tuple[str, str]]:
    """(text, class) of ``n`` made-up sentences, of three to nine words."""
    draw = torch.Generator().manual_seed(seed)

    def pick(words: Sequence[str]) -> str:
        return words[int(torch.randint(len(words), (1,), generator=draw))]

    found = []
    for i in range(n):
        name = classes[i % len(classes)]
        length = int(torch.randint(2, 8, (1,), generator=draw))
        words = [pick(WORDS["plain"]) for _ in range(length)]
        found.append((" ".join([*words, pick(WORDS[name])]), name))
    return found


def write_table(file: Path, rows: Sequence[Mapping[str, object]], delimiter: str = ",") -> Path:
    """Rows as a CSV file with a head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        lines = csv.DictWriter(out, [*rows[0]], delimiter=delimiter)
        lines.writeheader()
        lines.writerows(rows)
    return file


def reviews(file: Path, n: int, seed: int, labelled: bool = True) -> Path:
    """A CSV file of :func:`sentences` with columns text and label."""
    rows = sentences(n, seed)
    return write_table(file, [{"text": t} | ({"label": y} if labelled else {}) for t, y in rows])
