"""The predictions of a model, recorded once and compared with many times."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np


class Recorder:
    """A model whose logits are written to `file` in the order in which they are looked at."""

    def __init__(self, llm: Any, file: BinaryIO) -> None:
        self._llm = llm
        self._file = file
        self.scores = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def __getitem__(self, position: int) -> np.ndarray:
        row = self._llm.scores[position]
        self._file.write(row.astype("<f4").data)
        return row

    def forget_from(self, position: int) -> None:
        self._llm.scores.forget_from(position)


class Recorded:
    """Gives back in the same order what a Recorder wrote. Of tokens it says what `llm` does, of the same vocabulary."""

    def __init__(self, llm: Any, path: Path) -> None:
        self._llm = llm
        self._rows = iter(np.memmap(path, "<f4", "r").reshape(-1, llm.n_vocab()))
        self.scores = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._llm, name)

    def __getitem__(self, position: int) -> np.ndarray:
        return next(self._rows)

    def reset(self) -> None:
        pass

    def eval(self, tokens: list[int]) -> None:
        pass

    def forget_from(self, position: int) -> None:
        pass
