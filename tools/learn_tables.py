"""Learns the T16 tables that edgemoe ships, and writes them where the build finds them.

    python tools/learn_tables.py model.gguf [--iterations 80] [--output FILE]

Half of the samples are the model's own experts (F16, BF16 or F32), every other expert of each tensor. The other half,
so that the tables suit models that they have not seen, are normal (plain and with outliers), Laplace and Student-t
weights, with channels of one size and of different sizes. Prints the errors of experts that are held out.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np

from edgemoe.packs import codec

OUTPUT = Path(__file__).resolve().parents[1] / "native/src/codec/default_tables.inc"
HEADER = "// Written by tools/learn_tables.py: levels 2, 3, 4 and 6, a row for each selector.\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="a GGUF model whose experts are F16, BF16 or F32")
    parser.add_argument("--iterations", type=int, default=80)
    parser.add_argument("--weights", type=int, default=5_000_000, help="how many weights to learn from")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    experts = list(read_experts(options.model))
    if not experts:
        print(f"learn_tables.py: {options.model} has no expert tensors", file=sys.stderr)
        return 1
    samples = [*cut(experts, options.weights // 2), *synthetic(options.weights // 2)]
    started = time.monotonic()
    tables = codec.learn_tables(samples, iterations=options.iterations)
    count = sum(sample.size for sample in samples)
    print(f"learned from {count / 1e6:.1f} million weights in {time.monotonic() - started:.0f} s")
    options.output.write_text(HEADER + ",\n".join(as_source(table) for table in tables.arrays().values()) + "\n")
    report("held-out experts", [stack[1::2].reshape(-1, stack.shape[2])[:1024] for stack in experts], tables)
    report("synthetic", synthetic(600_000, seed=2), tables)
    return 0


def read_experts(path: Path) -> Iterator[np.ndarray]:
    """[experts, rows, columns] of each expert tensor."""
    for tensor in gguf.GGUFReader(path).tensors:
        if "_exps." in tensor.name:
            columns, rows, count = (int(n) for n in tensor.shape)
            yield gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(count, rows, columns)


def cut(experts: list[np.ndarray], weights: int) -> Iterator[np.ndarray]:
    """About as many weights of each tensor, from evenly spaced rows of every other expert."""
    for stack in experts:
        rows = stack[::2].reshape(-1, stack.shape[2])
        step = max(1, round(rows.size * len(experts) / weights))
        yield rows[::step]


def synthetic(weights: int, seed: int = 1) -> list[np.ndarray]:
    """Each of four kinds, with channels of one size and of different sizes."""
    random = np.random.default_rng(seed)
    shape = (weights // 8192, 1024)
    samples = []
    for spread in (0.0, 0.4):
        sizes = np.exp(random.normal(0, spread, shape[1]))
        outliers = np.where(random.random(shape) < 0.002, 8.0, 1.0)
        for values in (
            random.standard_normal(shape),
            random.standard_normal(shape) * outliers,
            random.standard_t(5, shape),
            random.laplace(0, 1, shape),
        ):
            samples.append((values * sizes).astype(np.float32))
    return samples


def as_source(table: np.ndarray) -> str:
    return "{" + ",\n".join("{" + ",".join(str(entry) for entry in row) + "}" for row in table.tolist()) + "}"


def report(name: str, matrices: list[np.ndarray], tables: codec.Tables) -> None:
    """Geometric means of the relative errors at each level."""
    logs: dict[int, list[float]] = {}
    for matrix in matrices:
        errors = codec.encode_matrix(matrix, tables, levels=codec.LEVELS).errors
        for level, (error, total) in errors.items():
            logs.setdefault(level, []).append(math.log(error / total))
    print(name + ": " + ", ".join(f"{level} {math.exp(np.mean(values)):.5f}" for level, values in logs.items()))


if __name__ == "__main__":
    sys.exit(main())
