"""Prompts as hashed words and character n-grams: the text is normalised here, the hashing is native."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemoe import _native
from edgemoe.errors import EdgeMoEError

HEAD_CHARACTERS = 6_000
TAIL_CHARACTERS = 2_000
"""A longer prompt is read at both ends; that bounds the time for any length."""

Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Hashing:
    """How text becomes bucket numbers: `buckets` of them, n-grams of `shortest` to `longest` characters."""

    buckets: int = 1 << 17
    shortest: int = 3
    longest: int = 5

    def extractor(self) -> Any:
        """The native extractor. Raises EdgeMoEError for numbers out of range."""
        return _native.Extractor(self.buckets, self.shortest, self.longest)


@dataclass(frozen=True)
class Corpus:
    """Features of many texts.

    Field f (0 words, 1 n-grams) of text t is `ids[bounds[2t + f] : bounds[2t + f + 1]]`; `dense` is (texts, 4).
    """

    ids: Int32
    bounds: npt.NDArray[np.int64]
    dense: Int32

    def __len__(self) -> int:
        return len(self.dense)

    def take(self, rows: npt.NDArray[np.int64]) -> Corpus:
        """Some of the texts, in the order of `rows`."""
        starts, ends = self.bounds[:-1].reshape(-1, 2)[rows].ravel(), self.bounds[1:].reshape(-1, 2)[rows].ravel()
        sizes = ends - starts
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], sizes)
        return Corpus(self.ids[places], bounds.astype(np.int64), self.dense[rows])


def normalise(text: str) -> str:
    """Both ends of a text in NFKC, case folded; halves of surrogate pairs become question marks.

    Raises EdgeMoEError for what is no text.
    """
    if not isinstance(text, str):
        raise EdgeMoEError(f"a prompt must be text, not {type(text).__name__}: decode it first")
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = f"{text[:HEAD_CHARACTERS]}\n{text[-TAIL_CHARACTERS:]}"
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8") if _has_surrogate(text) else text
        text = unicodedata.normalize("NFKC", text)
    return text.casefold()


def corpus_of(texts: Iterable[str], hashing: Hashing) -> Corpus:
    """Features of texts that are not normalised yet."""
    return Corpus(*hashing.extractor().extract_all([normalise(text) for text in texts]))


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
