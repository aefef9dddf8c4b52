"""`quality=` as a target: what is waited for, what is used, and what it costs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from edgemoe import Llama
from edgemoe.batching import Batch
from edgemoe.errors import EdgeMoEError
from edgemoe.experts.quality import TARGETS, Quality, parse_quality
from edgemoe.packs.plan import Settings
from edgemoe.packs.writer import pack
from models import write_model
from stock import decode_logits, prompt_logits

CONTEXT = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512, "n_threads": 1, "n_threads_batch": 1}
TOKENS = [(7 * i * i + 3 * i) % 200 + 5 for i in range(48)]
SIZES = {"n_expert": 16, "n_expert_used": 4, "n_layer": 2, "n_ff_exp": 256, "n_embd": 256}


def opened(path: Path, **options: object) -> contextlib.closing[Llama]:
    return contextlib.closing(Llama(path, **({"memory": None} | CONTEXT | options)))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    source = write_model(folder / "source.gguf", "qwen3moe", expert_type="F16", **SIZES)[0]
    return pack(source, folder / "x.mwq.gguf", Settings(levels=(2, 3, 4, 6))).path


@pytest.mark.parametrize("quality", ["exact", "high", "balanced", "fast", 0.02, "0.02", "fixed:3"])
def test_qualities_are_understood(quality: str | float) -> None:
    parsed = parse_quality(quality, (2, 3, 4))
    expected = {"exact": Quality(), "fixed:3": Quality(top_level=1)}
    targets = {name: Quality(target=target) for name, target in TARGETS.items()}
    assert parsed == (expected | targets).get(str(quality), Quality(target=0.02))
    assert 0 < TARGETS["high"] < TARGETS["balanced"] < TARGETS["fast"] < 0.1


@pytest.mark.parametrize(
    ("quality", "reason"),
    [("good", "'good' is unknown: use 'exact', 'high'"), (0, "above 0"), (1.0, "below 1"), (-0.1, "above 0")]
    + [("nan", "above 0"), (True, "above 0"), ("fixed:5", "levels 2, 3, 4"), ("", "is unknown")],
)
def test_other_qualities_are_refused(quality: str | float, reason: str) -> None:
    with pytest.raises(EdgeMoEError, match=reason):
        parse_quality(quality, (2, 3, 4))


def test_with_everything_in_memory_a_target_uses_everything(packed: Path) -> None:
    with opened(packed) as exact, opened(packed, quality="fast") as llm:
        llm.set_quality(1e-12)
        decode_logits(llm, TOKENS)
        prompt_logits(llm, TOKENS)
        llm.set_quality("fast")
        before = llm.stats().bytes_read
        assert np.array_equal(decode_logits(exact, TOKENS), decode_logits(llm, TOKENS))
        assert np.array_equal(prompt_logits(exact, TOKENS), prompt_logits(llm, TOKENS))
        assert llm.stats().bytes_read == before


def test_a_tiny_target_is_exact_whatever_the_cache(packed: Path) -> None:
    with opened(packed) as exact, opened(packed, quality=1e-12, cache=0.4) as llm:
        assert np.array_equal(decode_logits(exact, TOKENS), decode_logits(llm, TOKENS))
        assert np.array_equal(prompt_logits(exact, TOKENS), prompt_logits(llm, TOKENS))


def test_a_wide_target_reads_base_planes_alone(packed: Path) -> None:
    with opened(packed, quality=0.999, read_ahead=False) as llm, opened(packed, quality="fixed:2") as base:
        assert np.array_equal(decode_logits(base, TOKENS), decode_logits(llm, TOKENS))
        assert llm.stats().bits_per_weight == pytest.approx(base.stats().bits_per_weight)
        assert llm.stats().resident_bytes == base.stats().resident_bytes


def test_an_idle_disk_brings_the_planes_that_no_one_waits_for(packed: Path) -> None:
    with opened(packed, quality=0.999, read_ahead="always") as llm:
        bits = []
        for _ in range(6):
            before = llm.stats()
            decode_logits(llm, TOKENS)
            bits.append(llm.stats().since(before).bits_per_weight)
        assert bits == sorted(bits)
        assert bits[-1] > bits[0] + 1, bits


def test_nothing_is_upgraded_while_reading_ahead_is_on_trial(packed: Path) -> None:
    with opened(packed, quality=0.999) as llm, opened(packed, quality="fixed:2") as base:
        for token in TOKENS[:40]:
            llm.eval([token])
            base.eval([token])
        assert llm.stats().resident_bytes == base.stats().resident_bytes
        assert llm.stats().bits_per_weight == pytest.approx(base.stats().bits_per_weight)


def test_a_lower_target_costs_bytes_and_gives_precision(packed: Path) -> None:
    with opened(packed) as llm:
        reference = decode_logits(llm, TOKENS)
    lost, bits = [], []
    for quality in (0.05, 0.02, 0.005, 0.001):
        with opened(packed, quality=quality, cache=0.35, read_ahead=False) as llm:
            logits = decode_logits(llm, TOKENS)
            lost.append(float(((logits - reference) ** 2).mean()))
            bits.append(llm.stats().bits_per_weight)
    assert lost == sorted(lost, reverse=True), lost
    assert lost[0] > 4 * lost[-1]
    assert bits == sorted(bits), bits


def test_a_file_in_one_precision_meets_every_target(tmp_path: Path) -> None:
    source = write_model(tmp_path / "source.gguf", "qwen3moe", expert_type="Q4_0", **SIZES)[0]
    with opened(source) as exact, opened(source, quality="fast", cache=0.5) as llm:
        assert np.array_equal(decode_logits(exact, TOKENS), decode_logits(llm, TOKENS))
        assert llm.stats().bits_per_weight == pytest.approx(4.5)


@pytest.mark.parametrize("arch", ["qwen3moe", "olmoe", "deepseek2", "gpt-oss", "llama4", "grovemoe"])
def test_every_kind_of_router_has_targets(tmp_path: Path, arch: str) -> None:
    source = write_model(tmp_path / "source.gguf", arch, expert_type="F16")[0]
    path = pack(source, tmp_path / "x.mwq.gguf", Settings(levels=(2, 3, 4))).path
    with opened(path) as exact, opened(path, quality=0.02) as llm, opened(path, quality="fixed:2") as base:
        reference = decode_logits(exact, TOKENS)
        near = ((decode_logits(llm, TOKENS) - reference) ** 2).mean()
        assert near < ((decode_logits(base, TOKENS) - reference) ** 2).mean()
        assert base.stats().bits_per_weight < llm.stats().bits_per_weight < exact.stats().bits_per_weight


def test_quality_changes_while_running(packed: Path) -> None:
    with opened(packed, quality="fast") as llm, opened(packed, quality="fixed:2") as base, opened(packed) as exact:
        llm.set_quality("fixed:2")
        assert np.array_equal(decode_logits(base, TOKENS), decode_logits(llm, TOKENS))
        llm.set_quality("exact")
        assert np.array_equal(decode_logits(exact, TOKENS), decode_logits(llm, TOKENS))
        with pytest.raises(EdgeMoEError, match="load the model with them"):
            base.set_quality("fixed:4")
        llm.set_quality("balanced")
        with pytest.raises(EdgeMoEError, match="need a fixed quality"):
            llm.set_expert_levels(llm.expert_groups[0], [2] * SIZES["n_expert"])


def test_tokens_of_one_batch_have_targets_of_their_own(packed: Path) -> None:
    batch = TOKENS[:4]

    def rows(llm: Llama, targets: list[float]) -> tuple[np.ndarray, float]:
        llm._residence._engine.set_token_targets(targets)
        llm.reset()
        before = llm.stats()
        llm.eval(batch)
        return np.stack([llm.scores[i] for i in range(4)]), llm.stats().since(before).bits_per_weight

    options = {"cache": 0.35, "read_ahead": False, "logits_all": True}
    with opened(packed, **options) as llm:
        exact, all_bits = rows(llm, [])
    with opened(packed, **options) as llm:
        mixed, bits = rows(llm, [0.0, 0.999, 0.999, 0.999])
        assert np.array_equal(mixed[0], exact[0])
        assert not np.array_equal(mixed[1:], exact[1:])
        assert bits < all_bits
        again, bits = rows(llm, [0.0] * 4)
        assert np.array_equal(again, exact)
        assert bits == all_bits
        unlike, _ = rows(llm, [0.0] * 3)  # for batches of three tokens: this one is exact
        assert np.array_equal(unlike, exact)


def text_of(llm: Llama, **options: object) -> str:
    llm.reset()
    return llm("hello", max_tokens=12, temperature=0, **options)["choices"][0]["text"]


def bits_of(llm: Llama, **options: object) -> float:
    before = llm.stats()
    text_of(llm, **options)
    return llm.stats().since(before).bits_per_weight


def test_a_request_has_a_quality_of_its_own(packed: Path) -> None:
    with opened(packed) as exact, opened(packed, quality=0.999, read_ahead=False) as llm:
        low = bits_of(llm)
        assert low == bits_of(llm)
        assert bits_of(llm, quality="exact") == bits_of(exact)
        assert text_of(llm, quality="exact") == text_of(exact)
        assert bits_of(exact, quality="fixed:2") == pytest.approx(low)
        assert bits_of(exact) > low
        with pytest.raises(EdgeMoEError, match="is unknown"):
            llm("hello", quality="nice")
        assert "quality" not in llm.create_completion.__wrapped__.__code__.co_varnames


def test_streams_and_chats_have_a_quality_of_their_own(packed: Path) -> None:
    with opened(packed) as llm:
        messages = [{"role": "user", "content": "hello"}]
        options = {"max_tokens": 8, "temperature": 0}
        full = llm.stats()
        llm.create_chat_completion(messages, **options)
        full = llm.stats().since(full).bits_per_weight
        for chunks in (
            llm.create_chat_completion(messages, **options, stream=True, quality="fixed:2"),
            llm("hello", **options, stream=True, quality="fixed:2"),
        ):
            llm.reset()
            before = llm.stats()
            assert list(chunks)
            assert llm.stats().since(before).bits_per_weight < full - 1
        llm.reset()
        before = llm.stats()
        llm.create_chat_completion(messages, **options)
        assert llm.stats().since(before).bits_per_weight == full


@pytest.mark.parametrize("strict", [0, 1, 2])
def test_sequences_of_one_batch_have_qualities_of_their_own(packed: Path, strict: int) -> None:
    words = [TOKENS[:6], TOKENS[6:12], TOKENS[12:18]]

    def last_rows(qualities: list[str | float | None], **options: object) -> tuple[list[np.ndarray], float]:
        wide = opened(packed, n_seq_max=3, n_ctx=3 * 128, cache=0.4, read_ahead=False, **options)
        with wide as llm, Batch(llm) as batch:
            names = [batch.add([tokens[0]], quality) for tokens, quality in zip(words, qualities, strict=True)]
            for step in range(6):
                rows = batch.step()
                for name, tokens in zip(names, words, strict=True):
                    if step < 5:
                        batch.push(name, tokens[step + 1])
            return [rows[name] for name in names], llm.stats().bits_per_weight

    exact, all_bits = last_rows([None] * 3)
    qualities: list[str | float | None] = [0.999] * 3
    qualities[strict] = "exact"
    mixed, bits = last_rows(qualities)
    assert np.array_equal(mixed[strict], exact[strict])
    assert not any(np.array_equal(mixed[i], exact[i]) for i in range(3) if i != strict)
    assert bits < all_bits


def test_sequences_ask_for_qualities_that_they_can_have(packed: Path) -> None:
    with opened(packed, n_seq_max=2, n_ctx=256) as llm, Batch(llm) as batch:
        with pytest.raises(EdgeMoEError, match="is of a whole model"):
            batch.add([5], "fixed:2")
        with pytest.raises(EdgeMoEError, match="is unknown"):
            batch.add([5], "nice")
        assert batch.free == 2
