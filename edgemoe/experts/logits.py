"""Logits of the positions that somebody asked for, in place of llama-cpp-python's matrix of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.single]


class LogitRows:
    """Rows of `n_vocab` floats by position. The newest row is read from the context when it is not kept."""

    def __init__(self, n_vocab: int, newest: Callable[[], tuple[int, Row] | None]) -> None:
        self.n_vocab = n_vocab
        self._newest = newest
        self._kept: dict[int, Row] = {}
        self.newest_for_any = False
        """Answer with the newest row where one is missing: what a stopping criterion is given."""

    def keep(self, position: int, row: Row) -> None:
        self._kept[position] = row

    def forget_from(self, position: int) -> None:
        """Drops the rows of `position` and later ones."""
        for kept in [p for p in self._kept if p >= position]:
            del self._kept[kept]

    @property
    def nbytes(self) -> int:
        return len(self._kept) * self.n_vocab * 4

    def row(self, position: int) -> Row:
        """Raises LookupError for a position whose logits were not kept."""
        if position in self._kept:
            return self._kept[position]
        newest = self._newest()
        if newest is not None and (newest[0] == position or self.newest_for_any):
            return newest[1]
        raise LookupError(f"the logits of token {position} were not kept: evaluate with logits_all=True")

    def restore(self, kept: dict[int, Row]) -> None:
        self._kept = dict(kept)

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice):
            start, stop, step = rows.indices(1 << 31)
            return LogitView(self, range(start, stop, step))
        return self.row(int(rows))[columns]


class LogitView:
    """A range of rows, as `scores[:n]` gives it; indexing, iteration, copying and conversion work like numpy's."""

    def __init__(self, rows: LogitRows, positions: range) -> None:
        self._rows = rows
        self._positions = positions

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._positions), self._rows.n_vocab

    def __len__(self) -> int:
        return len(self._positions)

    def __iter__(self) -> Iterator[Row]:
        return (self._rows.row(position) for position in self._positions)

    def __getitem__(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if isinstance(rows, slice):
            return LogitView(self._rows, self._positions[rows])
        return self._rows.row(self._positions[int(rows)])[columns]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(list(self), dtype=dtype or np.single)

    def tolist(self) -> list[list[float]]:
        return [row.tolist() for row in self]

    def copy(self) -> dict[int, Row]:
        """The kept rows among these, by position."""
        kept = self._rows._kept
        return {position: kept[position].copy() for position in self._positions if position in kept}


class LogProbabilities:
    """Log-softmax of a LogitView, computed row by row as it is read."""

    def __init__(self, view: LogitView, log_softmax: Callable[[Row], Row]) -> None:
        self._view = view
        self._log_softmax = log_softmax

    def __len__(self) -> int:
        return len(self._view)

    def __iter__(self) -> Iterator[Row]:
        return (self._log_softmax(row) for row in self._view)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return LogProbabilities(self._view[key], self._log_softmax)
        return self._log_softmax(self._view[key])


def log_softmax_by_row(log_softmax: Callable[..., Any]) -> Callable[..., Any]:
    """`log_softmax` of (logits, axis) that takes a LogitView too."""

    def either(logits: Any, axis: int = -1) -> Any:
        return LogProbabilities(logits, log_softmax) if isinstance(logits, LogitView) else log_softmax(logits, axis)

    return either
