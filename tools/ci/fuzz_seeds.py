"""Small model files for the fuzzer to begin with: packs of random shapes, real ones, plain models, and damaged ones.

tools/ci/fuzz_seeds.py FOLDER
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from edgemoe.packs.header import DEFAULT_ALIGNMENT, Entry, Value, write_header
from edgemoe.packs.layout import (
    ALIGNMENT,
    KEYS,
    LEVELS,
    SLICED,
    VERSION,
    ExpertTensor,
    Format,
    make_groups,
    pack_entries,
)
from edgemoe.packs.plan import Settings
from edgemoe.packs.writer import pack
from models import write_model
from models.corrupt import corrupt_all

RANDOM_PACKS = 48
LARGEST = 256 * 1024
_SOURCE_TYPES = {form: kind for kind, form in SLICED.items()}
_NAMES = ("gate", "up", "down", "gate_up")


def random_tensors(chance: random.Random) -> list[ExpertTensor]:
    """Expert tensors of one or two layers."""
    tensors = []
    for layer in range(chance.choice([1, 1, 2])):
        experts = chance.choice([2, 2, 3])
        for name in chance.sample(_NAMES, chance.choice([1, 2, 3])):
            form = chance.choice(list(Format))
            columns = 32 * chance.randint(1, 20) if form == Format.T16 else 256 * chance.randint(1, 2)
            kind = _SOURCE_TYPES.get(form, chance.choice([0, 1]))
            full_name = f"blk.{layer}.ffn_{name}_exps.weight"
            tensors.append(ExpertTensor(full_name, form, kind, columns, chance.randint(1, 9), experts))
    return tensors


def random_pack(seed: int) -> bytes:
    """A pack that does not contradict itself, of random shapes and contents."""
    chance = random.Random(seed)
    levels = LEVELS[: chance.randint(1, len(LEVELS))]
    bias_levels = tuple(level for level in levels if chance.random() < 0.3)
    groups = make_groups(random_tensors(chance), bias_levels)
    tensors = [tensor for group in groups for tensor in group.tensors]
    shapes = [n for tensor in tensors for n in (tensor.columns, tensor.rows, tensor.experts)]
    alignment = chance.choice([ALIGNMENT, DEFAULT_ALIGNMENT])  # what is smaller is read faster, but not everywhere
    keys = {
        "general.alignment": Value.u32(alignment),
        "general.architecture": Value.text("qwen3moe"),
        f"{KEYS}version": Value.u32(VERSION),
        f"{KEYS}levels": Value.numbers(levels, "u4"),
        f"{KEYS}bias_levels": Value.numbers(bias_levels, "u4"),
        f"{KEYS}source.name": Value.text("source.gguf"),
        f"{KEYS}source.xxh3": Value.text("0" * 32),
        f"{KEYS}tensors": Value.texts([tensor.name for tensor in tensors]),
        f"{KEYS}formats": Value.numbers([int(tensor.format) for tensor in tensors], "u4"),
        f"{KEYS}types": Value.numbers([tensor.type for tensor in tensors], "u4"),
        f"{KEYS}shapes": Value.numbers(shapes, "u8"),
    }
    dense = [Entry("token_embd.weight", (32, 5), 0, 32 * 5 * 4)]
    header, entries, _ = write_header(keys, pack_entries(groups, levels, dense), alignment)
    return header + contents(entries, len(header), np.random.default_rng(seed))


def contents(entries: list[Entry], header: int, random_: np.random.Generator) -> bytes:
    """What follows the header: random bytes, and tables within their range."""
    data = random_.integers(0, 256, entries[-1].offset + entries[-1].bytes - header, np.uint8)
    for entry in entries:
        if entry.name.startswith("mwq.t16."):
            start = entry.offset - header
            table = random_.integers(-63, 64, entry.bytes, np.int8)
            data[start : start + entry.bytes] = table.view(np.uint8)
    return data.tobytes()


def write_seeds(folder: Path) -> None:
    """Everything, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(RANDOM_PACKS):
        (folder / f"random-{seed}.mwq.gguf").write_bytes(random_pack(seed))
    small = {"n_expert": 2, "n_expert_used": 1, "n_layer": 2}
    write_model(folder / "narrow.gguf", "qwen3moe", expert_type="F16", n_embd=32, n_ff_exp=32, **small)
    pack(folder / "narrow.gguf", folder / "narrow.mwq.gguf", Settings(levels=LEVELS), overwrite=True)
    write_model(folder / "wide.gguf", "qwen3moe", dense_type="Q4_0", expert_type="Q4_K", **small)
    with tempfile.TemporaryDirectory() as damaged:
        for kind, path in corrupt_all(folder / "narrow.gguf", damaged):
            if path.is_file():
                (folder / f"{kind}.gguf").write_bytes(path.read_bytes())
    for path in folder.iterdir():
        if path.stat().st_size > LARGEST:
            path.unlink()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_seeds(Path(sys.argv[1]))
