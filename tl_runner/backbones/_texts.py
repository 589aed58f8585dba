"""Texts as a network reads them, and what a run keeps to read new ones in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

FOLDER = "reader"  # in a run's folder
MULTIPLE = 8  # of tokens, to which texts of a batch are padded


class Reader(ABC):
    """From texts to the tensors that a backbone takes.

    A backbone of texts has a function ``reader(options)`` in its module, which makes one.

    Attributes:
        learns: whether :meth:`learn` changes anything.
    """

    learns = True

    @abstractmethod
    def learn(self, texts: Sequence[str]) -> None:
        """Take in training texts, of both domains, without labels."""

    @abstractmethod
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts as (N, L, 1, 1): tokens int32, -1 behind a text's last, or float32 counts."""

    @abstractmethod
    def files(self) -> Mapping[str, bytes]:
        """What reads texts in the same way, by the names of files."""

    def rules(self) -> bytes:
        """What decides which tensor a text becomes; all of :meth:`files` unless a reader says."""
        return b"".join(content for _, content in sorted(self.files().items()))

    @abstractmethod
    def take(self, folder: Path) -> None:
        """Take up what :meth:`files` gave.

        Raises:
            OSError, ValueError, KeyError, TypeError: it is not there, or is damaged.
        """
