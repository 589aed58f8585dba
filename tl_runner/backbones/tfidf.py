"""TF-IDF: how often a text has each word, against how many texts have it. No network.

Salton & Buckley, "Term-weighting approaches in automatic text retrieval", Information Processing &
Management 1988. What deep features have to beat.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from tl_runner.backbones._base import Backbone
from tl_runner.backbones._texts import Reader
from tl_runner.errors import DataError

FILE = "terms.json"


class Tfidf(Backbone):
    """Weights (B, V, 1, 1) of each term of the vocabulary, (B, V), each text's of length 1.

    Args:
        max_features, ngrams, sublinear: of the reader, :class:`Terms`.
    """

    def __init__(self, shape: tuple[int, int, int], **reading: Any):
        super().__init__()
        self.out_features = prod(shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Terms(Reader):
    """scikit-learn's ``TfidfVectorizer``, fitted to the training texts of both domains.

    Args:
        max_features: the most frequent terms that are counted.
        ngrams: up to how many words in a row are a term.
        sublinear: count 1 + log n for n occurrences.
    """

    def __init__(self, max_features: int, ngrams: int, sublinear: bool):
        self.options: dict[str, Any] = {
            "max_features": max_features,
            "ngram_range": (1, ngrams),
            "sublinear_tf": sublinear,
        }
        self.vectorizer = TfidfVectorizer(**self.options, dtype=np.float32)

    def learn(self, texts: Sequence[str]) -> None:
        try:
            self.vectorizer.fit(texts)
        except ValueError as error:  # only stop words, or no word of two letters
            raise DataError(f"backbone=tfidf finds no words in these texts ({error}).") from error

    def __call__(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.vectorizer.transform(texts).toarray())[:, :, None, None]

    def files(self) -> Mapping[str, bytes]:
        terms = self.vectorizer.get_feature_names_out().tolist()
        content = {"terms": terms, "idf": self.vectorizer.idf_.tolist()}
        return {FILE: json.dumps(content, ensure_ascii=False).encode()}

    def take(self, folder: Path) -> None:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        self.vectorizer = TfidfVectorizer(
            **self.options, dtype=np.float32, vocabulary=content["terms"]
        )
        self.vectorizer.idf_ = np.array(content["idf"], dtype=np.float32)


def reader(options: Mapping[str, Any]) -> Reader:
    """The reader of a section of the config."""
    return Terms(options["max_features"], options["ngrams"], options["sublinear"])
