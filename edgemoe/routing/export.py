"""A router as an ONNX file: int8 tables, and arithmetic that gives the same bits on every machine.

A field of a head with gates g and embeddings e has the mean h = sum(g e) / sum(g). The table holds g e and g as int8,
so both sums are integers of 32 bits: a row of ones times rows of the table. h is rounded to multiples of 2^-16; the
last layer multiplies integers in double precision, below 2^53, so that the order of its sums does not matter either.
What remains are single divisions, multiplications and additions, which IEEE 754 defines to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from edgemoe.routing.features import Hashing
from edgemoe.routing.heads import Doubles, Layers, RouterModel
from edgemoe.routing.protobuf import Graph

FORMAT = 1
CHECKSUM = "edgemoe.checksum"
DESCRIPTION = "edgemoe.router"
Int8 = npt.NDArray[np.int8]
DENSE = ("length", "digits", "marks", "script")

_UNSET = "0" * 32
_LARGEST = 127
_FRACTION = 1 << 16  # of a mean
_WEIGHT = 32767


def to_onnx(model: RouterModel, about: dict[str, Any]) -> bytes:
    """The file's bytes; `about` is kept beside the labels and thresholds."""
    graph = Graph("edgemoe-router")
    for name in ("words", "grams"):
        graph.input(name, "i4", [name])
    graph.input("dense", "i4", [len(DENSE)])
    parts = _parts(model)
    gates, tables, steps = zip(*(_table(part.layers) for part in parts), strict=True)
    graph.constant("table", np.concatenate([np.stack(gates, axis=1), *tables], axis=1))
    owner = np.repeat(np.arange(len(tables)), [table.shape[1] for table in tables])
    graph.constant("gate_columns", owner.astype(np.int64))
    graph.constant("value_columns", np.arange(len(owner), dtype=np.int64) + len(tables))
    graph.constant("axis", np.array([0], np.int64))
    graph.constant("row", np.array([1], np.int64))
    graph.constant("one", np.ones((1, 1), np.uint8))
    floors = [0.0 if part.layers.rectified else -1e9 for part in parts]
    graph.constant("floor", np.asarray(floors)[owner])
    graph.constant("fraction", np.array(_FRACTION, np.float64))
    means = [_field(graph, name) for name in ("words", "grams")]
    _last_layer(graph, parts, list(steps), means)
    graph.output("logits", "f4", [sum(part.width for part in parts)])
    graph.output("units", "f8", [2 * len(owner) + len(DENSE)])
    metadata = {DESCRIPTION: json.dumps(_describe(model, about), ensure_ascii=False), CHECKSUM: _UNSET}
    data = graph.model(metadata)
    return data.replace(_UNSET.encode(), checksum(data).encode())


@dataclass(frozen=True)
class _Part:
    """Some of the logits: those of a head without the effect of its topics, or those of topics."""

    layers: Layers
    scale: float = 1.0
    shift: tuple[float, ...] = ()
    length: float = 0.0

    @property
    def width(self) -> int:
        return len(self.layers.bias)


def _parts(model: RouterModel) -> list[_Part]:
    """All heads, then the topics of those that have some."""
    heads = [_Part(head.layers, head.scale, head.shift, head.length) for head in model.heads]
    return heads + [_Part(head.topics.layers) for head in model.heads if head.topics]


def checksum(data: bytes) -> str:
    """XXH3-128 of a file whose checksum's digits are zeros."""
    return xxhash.xxh3_128_hexdigest(data)


def stored_checksum(data: bytes) -> tuple[str, bytes] | None:
    """The checksum in a file, and the file with zeros in its place; None where there is none."""
    key = data.rfind(CHECKSUM.encode())
    begin = key + len(CHECKSUM) + 2  # past the value's tag and its length
    if key < 0 or begin + len(_UNSET) > len(data):
        return None
    end = begin + len(_UNSET)
    return data[begin:end].decode("ascii", "replace"), data[:begin] + _UNSET.encode() + data[end:]


def _table(layers: Layers) -> tuple[Int8, Int8, Doubles]:
    """Gates (buckets,) and gated embeddings (buckets, dim) as int8, and what a step of each column's mean is worth."""
    gates = np.exp(layers.gates.astype(np.float64))
    unit = gates.max() / _LARGEST
    whole = np.round(gates / unit).astype(np.int8)
    whole[0] = max(whole[0], 1)  # bucket 0 opens every field, so that no sum is 0
    values = layers.embeddings * (whole * unit)[:, None]  # of the gates as they are kept, so that they cancel
    steps = np.maximum(_best_limits(values), 1e-9) / _LARGEST
    table = np.clip(np.round(values / steps), -_LARGEST, _LARGEST).astype(np.int8)
    return whole, table, steps / unit


def _best_limits(values: Doubles) -> Doubles:
    """For each column the largest value to keep: cutting a few lets all others have smaller steps."""
    largest = np.abs(values).max(axis=0)
    best, least = largest, np.full(len(largest), np.inf)
    for share in (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.15, 0.1):
        step = np.maximum(largest * share, 1e-9) / _LARGEST
        error = ((np.clip(np.round(values / step), -_LARGEST, _LARGEST) * step - values) ** 2).sum(axis=0)
        best, least = np.where(error < least, largest * share, best), np.minimum(error, least)
    return best


def _field(graph: Graph, name: str) -> str:
    """The means of one field, in steps of the table's columns."""
    found = graph.add("Gather", ["table", name], f"{name}_rows", axis=0)
    shape = graph.add("Concat", ["row", graph.add("Shape", [name], f"{name}_count")], f"{name}_shape", axis=0)
    ones = graph.add("Expand", ["one", shape], f"{name}_ones")
    sums = graph.add("MatMulInteger", [ones, found], f"{name}_sums")  # pairs of products stay below 2^15, too
    exact = graph.add("Cast", [graph.add("Squeeze", [sums, "axis"], f"{name}_flat")], f"{name}_exact", to=11)
    values = graph.add("Gather", [exact, "value_columns"], f"{name}_values", axis=0)
    gates = graph.add("Gather", [exact, "gate_columns"], f"{name}_gates", axis=0)
    return graph.add("Max", [graph.add("Div", [values, gates], f"{name}_mean"), "floor"], f"{name}_means")


def _last_layer(graph: Graph, parts: Sequence[_Part], columns: list[Doubles], means: list[str]) -> None:
    """logits = integers * scale + bias, with integers = rounded means and dense features times integer weights."""
    width = sum(len(c) for c in columns)
    classes = sum(part.width for part in parts)
    weights = np.zeros((2 * width + len(DENSE), classes))
    scales, biases = np.zeros(classes), np.zeros(classes)
    column = row = 0
    for part, steps in zip(parts, columns, strict=True):
        own = slice(column, column + part.width)
        real = _real_weights(part, steps)  # (2, dim, classes)
        scale = max(float(np.abs(real).max()), 1e-12) / _WEIGHT
        for f in range(2):
            weights[f * width + row : f * width + row + len(steps), own] = np.round(real[f] / scale)
        scales[own] = scale / _FRACTION
        weights[2 * width, own.stop - 1] = np.round(part.length * part.scale / (scale / _FRACTION))
        biases[own] = part.layers.bias * part.scale + np.asarray(part.shift or (0.0,) * part.width)
        column, row = own.stop, row + len(steps)
    fixed = [graph.add("Round", [graph.add("Mul", [m, "fraction"], f"{m}_fixed")], f"{m}_round") for m in means]
    dense = graph.add("Cast", ["dense"], "dense_exact", to=11)
    units = graph.add("Concat", [*fixed, dense], "units", axis=0)
    graph.constant("weights", weights)
    graph.constant("scales", scales)
    graph.constant("biases", biases)
    integers = graph.add("MatMul", [units, "weights"], "integers")
    scaled = graph.add("Mul", [integers, "scales"], "scaled")
    graph.add("Cast", [graph.add("Add", [scaled, "biases"], "exact_logits")], "logits", to=1)


def _real_weights(part: _Part, steps: Doubles) -> Doubles:
    """Weights of the means in steps of the table, (2, dim, classes), the calibration's factor included."""
    by_field = part.layers.weights.astype(np.float64).reshape(part.width, 2, len(steps))
    return by_field.transpose(1, 2, 0) * steps[None, :, None] * part.scale


def _describe(model: RouterModel, about: dict[str, Any]) -> dict[str, Any]:
    hashing: Hashing = model.hashing
    return {
        "format": FORMAT,
        "hashing": {"buckets": hashing.buckets, "shortest": hashing.shortest, "longest": hashing.longest},
        "heads": [
            {
                "name": head.name,
                "labels": list(head.labels),
                "open": list(head.open),
                "offsets": [round(o, 6) for o in head.offsets],
                "topics": [round(effect, 6) for effect in head.topics.effects] if head.topics else [],
                "calibration": {"scale": head.scale, "shift": list(head.shift), "length": head.length},
                "report": head.report,
            }
            for head in model.heads
        ],
        "about": about,
    }
