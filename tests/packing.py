"""What tests of packs share: small sources, packs of them, and what models hold."""

from __future__ import annotations

from pathlib import Path

from edgemoe.packs.plan import Settings
from edgemoe.packs.source import Source
from edgemoe.packs.writer import Packed, pack
from models import write_model

SMALL = {"n_expert": 4, "n_expert_used": 2, "n_layer": 2, "n_ff_exp": 256, "n_embd": 256}


def tensors(path: Path) -> dict[str, tuple[int, tuple[int, ...], bytes]]:
    """Type, shape and bytes of each tensor of a model."""
    with Source(path) as source:
        return {t.name: (t.type, t.ne, source.read(t, 0, t.bytes).tobytes()) for t in source.tensors}


def packed(tmp_path: Path, arch: str = "qwen3moe", settings: Settings | None = None, **options: object) -> Packed:
    source = write_model(tmp_path / "source.gguf", arch, **(SMALL | options))[0]
    return pack(source, tmp_path / "pack.mwq.gguf", settings)
