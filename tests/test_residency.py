"""`resident_bits`: how much of each expert is in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemoe import Llama
from packing import packed

OPTIONS = {"n_ctx": 256, "n_threads": 1, "n_threads_batch": 1}
SHAPE = {"n_expert": 32, "n_layer": 3, "n_embd": 128, "n_ff_exp": 128}
TOKENS = [(7 * i * i + 3 * i) % 200 + 5 for i in range(64)]


@contextlib.contextmanager
def opened(path: Path, **options: object) -> Iterator[Llama]:
    with contextlib.closing(Llama(path, **({"memory": None} | OPTIONS | options))) as llm:
        yield llm


def flat(llm: Llama) -> list[float]:
    return [bits for group in llm.resident_bits().values() for bits in group]


@pytest.mark.parametrize(("expert_type", "bits"), [("F32", 32.0), ("F16", 16.0), ("Q8_0", 8.5), ("Q4_0", 4.5)])
def test_fills_up_to_the_bits_of_the_type(model_factory, expert_type: str, bits: float) -> None:
    with opened(model_factory("qwen3moe", expert_type=expert_type, **SHAPE)[0], read_ahead=False) as llm:
        assert list(llm.resident_bits()) == llm.expert_groups == [f"blk.{layer}.exps" for layer in range(3)]
        assert [len(group) for group in llm.resident_bits().values()] == [32] * 3
        assert flat(llm) == [0.0] * 96
        llm.eval(TOKENS[:1])
        few = flat(llm)
        assert set(few) == {0.0, bits}
        assert few.count(bits) == llm.stats().misses, "each expert was read once"
        llm.eval(TOKENS[1:])
        many = flat(llm)
        assert all(now >= then for now, then in zip(many, few, strict=True))
        assert many.count(bits) == llm.stats().misses > few.count(bits)


def test_is_bounded_by_the_cache(model_factory) -> None:
    path = model_factory("qwen3moe", expert_type="F16", **SHAPE)[0]
    with opened(path) as everything, opened(path, cache=0.25) as quarter:
        for llm in (everything, quarter):
            llm.eval(TOKENS)
        weights = 3 * 128 * 128
        for llm in (everything, quarter):
            stats = llm.stats()
            inside = sum(flat(llm)) * weights / 8
            assert inside <= stats.resident_bytes <= stats.cache_bytes
        assert 0 < sum(flat(quarter)) <= 0.3 * 16 * 96
        assert sum(flat(everything)) > 2 * sum(flat(quarter))


def test_follows_a_cache_that_shrinks(model_factory) -> None:
    with opened(model_factory("qwen3moe", expert_type="F16", **SHAPE)[0]) as llm:
        llm.eval(TOKENS)
        before = sum(flat(llm))
        llm._residence._engine.set_cache(llm.stats().cache_bytes // 3)
        assert 0 < sum(flat(llm)) < 0.5 * before


def test_planes_of_a_pack_count(tmp_path: Path) -> None:
    pack = packed(tmp_path, expert_type="F16").path
    seen = {}
    for quality in ("fixed:2", "fixed:3", "fixed:4"):
        with opened(pack, quality=quality) as llm:
            assert set(flat(llm)) == {0.0}
            llm.eval(TOKENS)
            seen[quality] = max(flat(llm))
    assert 2 < seen["fixed:2"] < 3 < seen["fixed:3"] < 4 < seen["fixed:4"] < 5


def test_a_level_of_its_own_shows(tmp_path: Path) -> None:
    with opened(packed(tmp_path, expert_type="F16").path, quality="fixed:4") as llm:
        group = llm.expert_groups[0]
        llm.set_expert_levels(group, [2, 4, 4, 4])
        llm.eval(TOKENS)
        low, *high = llm.resident_bits()[group]
        assert 2 < low < 3
        assert all(4 < bits < 5 for bits in high)


def test_a_dense_model_has_none(model_factory) -> None:
    with opened(model_factory("llama")[0]) as llm:
        llm.eval(TOKENS)
        assert llm.resident_bits() == {}
