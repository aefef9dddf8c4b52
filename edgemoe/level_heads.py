"""Runs a pack over a text, layer by layer at its lowest level, and fits the heads that choose levels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgemoe.llama import Llama
from edgemoe.packs.heads import Doubles, Floats, Head, Heads, fit_head, no_head, prices_of
from edgemoe.packs.layout import ExpertTensor, Group, plane_bytes
from edgemoe.packs.planes import dequantize, row_biases
from edgemoe.packs.reader import Pack
from edgemoe.packs.summary import summarize

_EVALUATED = 98304
"""Tokens that are evaluated for all layers together, about: each layer's twice."""
_LEAST, _MOST = 512, 8192
"""Tokens of the text that are read."""
_WINDOW = 512
_POSITIONS = 8
"""Every how many positions predictions are compared."""
_SMALLEST = 1e-12


@dataclass
class _Seen:
    """Rows of one group: inputs of the layer and of the last matrix at the highest level, this also at the lowest."""

    x: list[Floats]
    high: list[Floats]
    low: list[Floats]
    squares: list[Floats]


class HeadTrainer:
    """Fits the heads of a pack with a text. See packs.plan.Settings, of which this is `heads`.

    Args:
        text: what the pack reads: thousands of tokens.
        threads: to compute with; None: the cores.
    """

    def __init__(self, text: str, *, threads: int | None = None) -> None:
        self._text = text
        self._threads = threads

    def __call__(self, path: Path) -> Heads:
        """Raises EdgeMoEError when the pack cannot be run."""
        n_ctx = min(_WINDOW, summarize(path).n_ctx_train or _WINDOW)
        options: dict[str, Any] = {"n_ctx": n_ctx, "n_batch": n_ctx, "n_threads": self._threads, "logits_all": True}
        with Pack(path) as pack, closing(Llama(str(path), **options)) as llm:
            tokens = llm.tokenize(self._text.encode(), add_bos=False, special=True)
            tokens = tokens[: min(_MOST, max(_LEAST, _EVALUATED // (2 * len(pack.groups))))]
            windows = [tokens[start : start + llm.n_ctx()] for start in range(0, len(tokens), llm.n_ctx())]
            heads: dict[str, Head] = {}
            values: list[Doubles] = []
            sizes: list[Doubles] = []
            for group in pack.groups:
                head, worth, size = _fit_group(pack, group, llm, windows)
                heads[group.name] = head
                values += worth
                sizes += size
            return Heads(heads, prices_of(values, sizes))


def _fit_group(
    pack: Pack, group: Group, llm: Llama, windows: list[list[int]]
) -> tuple[Head, list[Doubles], list[Doubles]]:
    """The head, and of each plane above the base of each routed row what it mends for each byte, and its bytes."""
    seen = {expert: _Seen([], [], [], []) for expert in range(group.experts)}
    losses = [_compare(llm, group, pack.levels[0], window, seen) for window in windows]
    used = [expert for expert in seen if seen[expert].x]
    if not used:  # a layer that the model does not compute
        return no_head(group.tensors[0].columns, group.experts), [], []
    experts = np.concatenate([np.full(sum(map(len, seen[e].x)), e) for e in used])
    x = np.concatenate([rows for e in used for rows in seen[e].x])
    squares = np.concatenate([rows for e in used for rows in seen[e].squares]).astype(np.double)
    errors = np.concatenate([_output_errors(pack, group, e, seen[e]) for e in used])
    eps = np.minimum.accumulate(pack.errors(group).astype(np.double), axis=1)
    span = np.maximum(eps[:, 0] - eps[:, -1], _SMALLEST)
    # What the model loses by the layer, given to rows by their squared errors.
    lost = max(float(np.concatenate(losses).mean()), _SMALLEST) * sum(map(len, windows))
    worth = lost / max(float(errors @ squares), _SMALLEST)
    head = fit_head(x, experts, worth * errors / span[experts], group.experts)
    hot = head.weights(x, experts) * squares
    above = [(number, _bytes(group, level)) for number, level in enumerate(pack.levels) if number]
    mended = [hot * (eps[experts, n - 1] - eps[experts, n]) / size for n, size in above if size]
    return head, mended, [np.full(len(hot), float(size)) for _, size in above if size]


def _bytes(group: Group, level: int) -> int:
    return sum(plane_bytes(tensor, level, biased=level in group.bias_levels) for tensor in group.tensors)


def _compare(
    llm: Llama, group: Group, lowest: int, window: list[int], seen: dict[int, _Seen]
) -> npt.NDArray[np.double]:
    """Kullback-Leibler divergences of some positions of the window with the group's experts at `lowest`."""
    before = _evaluate(llm, group, window)
    first, last = group.tensors[0].name, group.tensors[-1].name
    for tensors, expert, rows in before.inputs:
        if first in tensors:
            seen[expert].x.append(rows)
        if last in tensors:
            seen[expert].high.append(rows)
    for expert, squares in before.squares:
        seen[expert].squares.append(np.asarray(squares, np.single))
    llm.set_expert_levels(group.name, [lowest] * group.experts)
    after = _evaluate(llm, group, window)
    llm.set_expert_levels(group.name, [])
    for tensors, expert, rows in after.inputs:
        if last in tensors:
            seen[expert].low.append(rows)
    return np.einsum("ij,ij->i", np.exp(before.logs), before.logs - after.logs)


@dataclass
class _Pass:
    inputs: list[tuple[list[str], int, Floats]]
    squares: list[tuple[int, list[float]]]
    logs: Doubles


def _evaluate(llm: Llama, group: Group, window: list[int]) -> _Pass:
    llm.observe_experts([llm.expert_groups.index(group.name)])
    llm.reset()
    llm.eval(window)
    logits = np.array([llm.scores[at] for at in range(0, len(window), _POSITIONS)], np.double)
    logits -= logits.max(1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    done = _Pass(llm.take_expert_inputs(), llm.take_expert_weights(), logits)
    llm.observe_experts([])
    return done


def _output_errors(pack: Pack, group: Group, expert: int, seen: _Seen) -> Doubles:
    """Squared errors of the expert's output at the lowest level, for each row."""
    last = group.tensors[-1]
    outputs = [
        rows @ weights.T + biases
        for rows, (weights, biases) in (
            (np.concatenate(seen.high), _matrix(pack, group, expert, last, pack.levels[-1])),
            (np.concatenate(seen.low), _matrix(pack, group, expert, last, pack.levels[0])),
        )
    ]
    return ((outputs[0] - outputs[1]).astype(np.double) ** 2).sum(1)


def _matrix(pack: Pack, group: Group, expert: int, tensor: ExpertTensor, level: int) -> tuple[Floats, Floats]:
    """Weights [rows, columns] and row biases [rows] at `level`."""
    planes = dict(_planes(pack, group, expert, tensor, level))
    biased = level in group.bias_levels and level in planes
    biases = row_biases(tensor, planes[level], level) if biased else np.zeros(tensor.rows, np.float32)
    return dequantize(tensor, planes, level, pack.tables), biases


def _planes(pack: Pack, group: Group, expert: int, tensor: ExpertTensor, level: int) -> Iterator[tuple[int, Any]]:
    for step in pack.levels[: pack.levels.index(level) + 1]:
        size = plane_bytes(tensor, step, biased=step in group.bias_levels)
        if size:
            start = group.plane_offsets(step)[group.tensors.index(tensor)]
            yield step, np.ascontiguousarray(pack.extent(group, step, expert)[start : start + size])
