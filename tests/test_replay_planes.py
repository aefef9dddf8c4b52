"""Planes replayed on recorded routing: what the policy would have read is what the engine reads."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from edgemoe import EdgeMoEError, Llama
from edgemoe.bench.texts import ENGLISH
from edgemoe.default_model import default_model_path
from edgemoe.experts.trace import Trace, read_trace
from edgemoe.packs.reader import Pack
from edgemoe.residence import HALF_LIFE

TOOLS = Path(__file__).resolve().parents[1] / "tools"


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(TOOLS))
    try:
        yield importlib.import_module("replay_trace")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def pack() -> Iterator[Pack]:
    with Pack(default_model_path()) as opened:
        yield opened


def recorded(folder: Path, quality: str | float, cache: str, tokens: int = 240) -> tuple[Trace, float, float]:
    """The routing of single tokens, and what the engine read (bytes a token) and used (bits) of the second half."""
    path = folder / "routing.msgpack"
    settings = {"memory": None, "cache": cache, "quality": quality, "n_ctx": 256, "n_threads": 1, "read_ahead": False}
    with contextlib.closing(Llama(default_model_path(), trace=path, **settings)) as llm:
        ids = (llm.tokenize(ENGLISH.encode()) * 8)[:tokens]
        for token in ids[: tokens // 2]:
            llm.eval([token])
        before = llm.stats()
        for token in ids[tokens // 2 :]:
            llm.eval([token])
        done = llm.stats().since(before)
    return read_trace(path), done.bytes_read / (tokens // 2), done.bits_per_weight


@pytest.mark.parametrize(("quality", "cache"), [("exact", "25%"), (0.02, "25%"), (0.02, "50%"), (0.05, "15%")])
def test_the_replay_reads_what_the_engine_reads(
    tmp_path: Path, tool: ModuleType, pack: Pack, quality: str | float, cache: str
) -> None:
    trace, read, bits = recorded(tmp_path, quality, cache)
    size = int(float(cache.rstrip("%")) / 100 * tool.pack_bytes(pack))
    result = tool.replay_planes(trace, pack, str(quality), size, HALF_LIFE, 0.5)
    # Sizes of planes differ, and a place is given to another size only where that is worth twice as much.
    assert result.bytes_per_token == pytest.approx(read, rel=0.15)
    assert result.bits == pytest.approx(bits, rel=0.03)
    assert 0 < result.error <= (0.02 if quality == "exact" else float(quality))


def test_more_memory_and_wider_targets_read_less(tmp_path: Path, tool: ModuleType, pack: Pack) -> None:
    trace, _, _ = recorded(tmp_path, "exact", "100%", tokens=120)
    total = tool.pack_bytes(pack)

    def read(quality: str, share: float) -> float:
        result: float = tool.replay_planes(trace, pack, quality, int(share * total), HALF_LIFE, 0.5).bytes_per_token
        return result

    for share in (0.1, 0.25, 0.5):
        assert read("exact", share) > read("high", share) > read("balanced", share) > read("fast", share)
    for quality in ("exact", "balanced"):
        assert read(quality, 0.1) > read(quality, 0.25) > read(quality, 0.5) >= read(quality, 1.0)


def test_on_the_command_line(tmp_path: Path) -> None:
    recorded(tmp_path, "exact", "100%", tokens=40)
    command = [sys.executable, TOOLS / "replay_trace.py", tmp_path / "routing.msgpack", "--pack", default_model_path()]
    rows = json.loads(subprocess.run([*command, "--cache", "25%", "--json"], capture_output=True, check=True).stdout)
    assert [row["quality"] for row in rows] == ["exact", "high", "balanced", "fast"]
    shown = subprocess.run([*command, "--quality", "0.03"], capture_output=True, check=True, text=True).stdout
    assert "0.03" in shown
    for wrong in ("best", "0", "2", "nan", "fixed:2"):
        done = subprocess.run([*command, "--quality", wrong], capture_output=True, check=False, text=True)
        assert done.returncode == 2
        assert f"'{wrong}' cannot be replayed" in done.stderr


def test_a_trace_of_another_model_is_refused(tool: ModuleType, pack: Pack) -> None:
    with pytest.raises(EdgeMoEError, match="other layers and experts than the model of the trace, other"):
        tool.replay_planes(Trace("other", [("blk.0.exps", 4, 1000)], []), pack, "exact", 1000, HALF_LIFE, 0.5)
