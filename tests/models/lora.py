"""Random LoRA adapters for the models of this package."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter


def write_lora(
    path: str | Path,
    model: Sequence[str | Path],
    *,
    targets: Sequence[str] = ("attn_q", "attn_output"),
    rank: int = 4,
    alpha: float = 8.0,
    strength: float = 0.5,
    seed: int = 0,
) -> Path:
    """Write an adapter for every `blk.N.TARGET.weight` of a model, given by its files.

    Stacked experts (`ffn_up_exps` and the like) get one pair of matrices for each expert. `strength` is the size of
    what the adapter adds, next to an input of unit size, when it is applied with scale 1.
    """
    path = Path(path)
    readers = [GGUFReader(file) for file in model]
    pattern = re.compile(rf"blk\.\d+\.({'|'.join(map(re.escape, targets))})\.weight")
    tensors = [t for reader in readers for t in reader.tensors if pattern.fullmatch(t.name)]
    if not tensors:
        raise ValueError(f"{model[0]} has no tensor that matches {pattern.pattern}")

    writer = GGUFWriter(path, readers[0].fields["general.architecture"].contents())
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    for tensor in tensors:
        n_in, n_out, *experts = (int(size) for size in tensor.shape)
        random = np.random.default_rng([seed, zlib.crc32(tensor.name.encode())])
        down = random.standard_normal((*experts, rank, n_in), dtype=np.float32) / n_in**0.5
        up = random.standard_normal((*experts, n_out, rank), dtype=np.float32) * (strength * rank**0.5 / alpha)
        writer.add_tensor(f"{tensor.name}.lora_a", down)
        writer.add_tensor(f"{tensor.name}.lora_b", up)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
