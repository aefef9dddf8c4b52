"""Runs a model over a text and keeps what its experts see: which input channels matter, and how they go together."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from edgemoe import machine
from edgemoe.default_model import calibration_text_path
from edgemoe.errors import EdgeMoEError
from edgemoe.llama import Llama
from edgemoe.packs.layout import group_of
from edgemoe.packs.summary import open_model, summarize
from edgemoe.sizes import format_size

Floats = npt.NDArray[np.single]

DEFAULT_TOKENS = 65536
_MOST_CODE = 50_000
"""Characters of source code in the text that is read when none is named."""
_WINDOW = 2048
_LARGEST_BATCH = 512
_SMALLEST_BATCH = 32
_ROWS_BYTES = 512 << 20
"""Inputs that are held at a time."""
_PRIOR_ROWS = 32
"""Rows that the average of a layer's experts counts among an expert's own: few of its own say little."""
_SHARE = 0.85
_MODEL_SHARE = 0.6
"""Of the memory that is free: for all of it, and at most for the model; second moments of pairs have the rest."""
_BESIDES = 1 << 30
"""What a model may need besides its file."""


def default_text() -> str:
    """About 200 KB: the fables of `models/calibration.txt`, and then source code of this package.

    Raises:
        ModelError: when this installation came without the fables.
    """
    code = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py")))
    return f"{calibration_text_path().read_text(encoding='utf-8')}\n{code[:_MOST_CODE]}"


@dataclass
class _Moments:
    """Sums over the rows that an expert saw: of 1, x, x^2 and (where asked for) x x^T."""

    rows: int
    first: Floats
    second: Floats
    pairs: Floats | None = None

    def add(self, x: Floats) -> None:
        self.rows += len(x)
        self.first += x.sum(0, dtype=np.single)
        self.second += np.einsum("ij,ij->j", x, x)

    def add_pairs(self, x: Floats) -> None:
        product = x.T @ x
        self.pairs = product if self.pairs is None else self.pairs + product


class Calibration:
    """Statistics of expert inputs; see packs.calibration.Calibration, which this is.

    Second moments of pairs are large (4 columns^2 bytes for each expert and input), so that they are collected for as
    many layers at a time as `memory` bytes hold: the model runs over the text again when the next ones are asked for.

    Args:
        path: the model, a GGUF.
        text: what it reads.
        hessians: whether pairs are collected at all.
        tokens: at most, of the text.
        memory: for pairs; by default most of what is free and the model does not need.
        progress: told the tokens read and their number, in each run.

    Raises:
        EdgeMoEError: the text has too few tokens, or the model has no experts.
        MemoryError: the `hessians` of one layer do not fit into `memory`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        text: str,
        *,
        hessians: bool = True,
        tokens: int = DEFAULT_TOKENS,
        memory: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._text = text
        self._limit = tokens
        self._progress = progress or (lambda done, total: None)
        self._lock = threading.Lock()
        free = machine.available_memory()
        self._model_bytes = min(int(free * _MODEL_SHARE), summarize(path).file_bytes + _BESIDES)
        self._memory = memory or int(free * _SHARE) - self._model_bytes
        self._hessians = hessians
        self._moments: dict[tuple[str, int], _Moments] = {}
        self._owner: dict[str, str] = {}  # the first tensor that shares a tensor's input
        self._group_of: dict[str, int] = {}
        self._groups: list[str] = []
        self._run(range(0))
        if hessians:
            sizes = self._pair_bytes()
            if max(sizes.values(), default=0) > self._memory:
                raise MemoryError(
                    f"second moments of one layer's inputs take {format_size(max(sizes.values()))}, and "
                    f"{format_size(self._memory)} are free for them"
                )

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self._text.encode())
        return f"{digest.hexdigest()[:32]}:{self._limit}:{'pairs' if self._hessians else 'channels'}"

    def input_of(self, tensor: str) -> str:
        return self._owner.get(tensor, tensor)

    def importance(self, tensor: str, expert: int) -> Floats | None:
        return self._mean(tensor, expert, "second")

    def mean_input(self, tensor: str, expert: int) -> Floats | None:
        return self._mean(tensor, expert, "first")

    def hessian(self, tensor: str, expert: int) -> Floats | None:
        if not self._hessians or tensor not in self._owner:
            return None
        with self._lock:
            if not self._has_pairs(tensor):
                self._run_from(self._group_of[tensor])
            return self._mean(tensor, expert, "pairs")

    def _mean(self, tensor: str, expert: int, what: str) -> Floats | None:
        """Of the expert's own rows and of `_PRIOR_ROWS` average ones of its layer."""
        owner = self._owner.get(tensor, "")
        every = self._averages.get((owner, what))
        own = self._moments.get((owner, expert))
        total = getattr(own, what, None)
        if every is None or own is None or total is None:
            return every
        return (total + _PRIOR_ROWS * every) / np.single(own.rows + _PRIOR_ROWS)

    def _average(self) -> None:
        """Over all experts of a layer, by rows."""
        self._averages: dict[tuple[str, str], Floats] = {}
        for owner in set(self._owner.values()):
            moments = [m for (name, _), m in self._moments.items() if name == owner]
            rows = np.single(sum(m.rows for m in moments))
            for what in ("first", "second", "pairs"):
                found = [total for m in moments if (total := getattr(m, what)) is not None]
                if found:
                    self._averages[owner, what] = sum(found[1:], start=found[0]) / rows

    def _has_pairs(self, tensor: str) -> bool:
        return any(name == self._owner[tensor] and m.pairs is not None for (name, _), m in self._moments.items())

    def _pair_bytes(self) -> dict[int, int]:
        """Of each group."""
        sizes: dict[int, int] = {}
        for (name, _), moments in self._moments.items():
            group = self._group_of[name]
            sizes[group] = sizes.get(group, 0) + 4 * len(moments.first) ** 2
        return sizes

    def _run_from(self, first: int) -> None:
        """Collects the pairs of group `first` and of as many after it as fit beside those of the group before it."""
        sizes = self._pair_bytes()
        for (name, _), moments in self._moments.items():
            if self._group_of[name] < first - 1:
                moments.pairs = None
        room = self._memory - sizes.get(first - 1, 0)
        last = first + 1
        taken = sizes.get(first, 0)
        while last < len(self._groups) and taken + sizes.get(last, 0) <= room:
            taken += sizes.get(last, 0)
            last += 1
        self._run(range(first, last))

    def _run(self, groups: range) -> None:
        """One pass over the text: pairs of `groups`, or what is cheap of all of them when there are none."""
        pairs = len(groups) > 0
        model = open_model(self._path)
        summary = summarize(self._path, model)
        a_token = 4 * summary.experts_used * sum(tensor.shape[0] for tensor in model.tensors if tensor.expert)
        batch = max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _ROWS_BYTES // max(a_token, 1)))
        n_ctx = min(_WINDOW, summary.n_ctx_train or _WINDOW)
        budget = machine.rss() + self._model_bytes
        with closing(Llama(self._path, n_ctx=n_ctx, n_batch=batch, n_outputs_max=batch, memory=budget)) as llm:
            self._groups = llm.expert_groups
            if not self._groups:
                raise EdgeMoEError(f"{self._path} has no experts: there is nothing to calibrate")
            tokens = llm.tokenize(self._text.encode(), add_bos=False, special=True)[: self._limit]
            if len(tokens) < _LARGEST_BATCH:
                raise EdgeMoEError(f"the calibration text has {len(tokens)} tokens: it should have thousands")
            llm.observe_experts(groups if pairs else range(len(self._groups)))
            with threadpool_limits(machine.processors(), "blas"):  # those who pack wait for it
                self._read(llm, tokens, batch, pairs)
        self._average()

    def _read(self, llm: Llama, tokens: list[int], batch: int, pairs: bool) -> None:
        window = llm.n_ctx()
        for start in range(0, len(tokens), window):
            llm.reset()
            for at in range(start, min(start + window, len(tokens)), batch):
                llm.eval(tokens[at : min(at + batch, start + window)])
                self._collect(llm, pairs)
                self._progress(min(at + batch, len(tokens)), len(tokens))

    def _collect(self, llm: Llama, pairs: bool) -> None:
        for names, expert, rows in llm.take_expert_inputs():
            for name in names:
                self._owner[name] = names[0]
                self._group_of[name] = self._groups.index(group_of(name))
            key = names[0], expert
            if key not in self._moments:
                columns = rows.shape[1]
                self._moments[key] = _Moments(0, np.zeros(columns, np.single), np.zeros(columns, np.single))
            if pairs:  # the rows themselves were counted in the first pass
                self._moments[key].add_pairs(rows)
            else:
                self._moments[key].add(rows)
