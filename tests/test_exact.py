"""At quality="exact" every number is the one that stock llama.cpp computes."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest

from edgemoe import Llama, machine
from models import ARCHITECTURES
from stock import decode_logits, greedy, prompt_logits, stock_llama

MOE = [name for name in ARCHITECTURES if name != "llama"]
EXPERT_TYPES = ["F16", "BF16", "F32", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K", "IQ4_XS", "MXFP4"]
CONTEXT = {"n_ctx": 256, "n_batch": 128, "n_ubatch": 128}


@contextlib.contextmanager
def both(path: object, **kwargs: object):
    """Stock llama.cpp and edgemoe over one file, with equal settings."""
    options = CONTEXT | {"n_threads": 2, "n_threads_batch": 2} | kwargs
    ours = {key: options.pop(key) for key in ("memory", "cache") if key in options}
    with (
        contextlib.closing(stock_llama(path, **options)) as stock,
        contextlib.closing(Llama(path, **options, **ours)) as llm,
    ):
        yield stock, llm


def tokens_for(llm: object, count: int, seed: int = 0) -> list[int]:
    return [random.Random(seed).randrange(200) for _ in range(count)]


def check_everything(stock: object, llm: object) -> None:
    tokens = tokens_for(llm, 24)
    np.testing.assert_array_equal(decode_logits(llm, tokens), decode_logits(stock, tokens))
    prompt = tokens_for(llm, 64, seed=1)
    np.testing.assert_array_equal(prompt_logits(llm, prompt), prompt_logits(stock, prompt))
    assert greedy(llm, tokens, 32) == greedy(stock, tokens, 32)


@pytest.mark.parametrize("arch", MOE)
def test_architecture(model_factory, arch: str) -> None:
    path = model_factory(arch)[0]
    with both(path) as (stock, llm):
        check_everything(stock, llm)
        assert llm.stats().misses > 0
        assert llm.stats().cache_bytes > 0


@pytest.mark.parametrize("expert_type", EXPERT_TYPES)
def test_expert_type(model_factory, expert_type: str) -> None:
    with both(model_factory("qwen3moe", expert_type=expert_type)[0]) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize("arch", ["qwen3moe", "gpt-oss", "deepseek2", "nemotron_h_moe"])
def test_mixed_types(model_factory, arch: str) -> None:
    with both(model_factory(arch, expert_type="Q4_K", mixed=True)[0]) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize("parts", [2, 5])
def test_split_file(model_factory, parts: int) -> None:
    with both(model_factory("qwen3moe", split_into=parts)[0]) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize("threads", [1, 3, 4])
def test_thread_counts(model_factory, threads: int) -> None:
    path = model_factory("qwen2moe", expert_type="Q4_K")[0]
    with both(path, n_threads=threads, n_threads_batch=threads) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize(
    ("arch", "width", "expert_type"),
    [("gpt-oss", 2880, "MXFP4"), ("deepseek2", 1408, "Q4_0"), ("qwen3moe", 768, "Q4_K"), ("qwen3moe", 768, "Q6_K")],
)
def test_real_widths(model_factory, arch: str, width: int, expert_type: str) -> None:
    n_embd = 2880 if arch == "gpt-oss" else 2048
    path = model_factory(arch, expert_type=expert_type, n_embd=n_embd, n_ff_exp=width, n_expert=8, n_layer=2)[0]
    with both(path) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize("arch", ["qwen3moe", "gpt-oss", "grovemoe", "llama4"])
def test_smallest_cache(model_factory, arch: str) -> None:
    """Below what a prompt's layer touches, experts stream through the cache; the numbers stay the same."""
    path = model_factory(arch, expert_type="MXFP4" if arch == "gpt-oss" else "Q8_0", n_expert=32)[0]
    with both(path, cache=smallest_cache(path)) as (stock, llm):
        check_everything(stock, llm)
        stats = llm.stats()
        assert stats.resident_bytes <= stats.cache_bytes
        assert stats.cache_bytes < llm._residence._engine.full_cache()


def smallest_cache(path: object) -> int:
    with contextlib.closing(Llama(path, **CONTEXT)) as llm:
        return llm._residence.share.minimum_cache


def test_embedding_on_disk(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512)[0]
    with contextlib.closing(stock_llama(path, n_threads=2, n_threads_batch=2, **CONTEXT)) as stock:
        with contextlib.closing(Llama(path, memory=None, **CONTEXT)) as roomy:
            everything = roomy._residence.plan
        assert not everything.embedding_on_disk
        needed = everything.comfortable - everything.parts["Python and libraries"]
        budget = machine.rss() + needed - everything.full_cache // 4
        with contextlib.closing(Llama(path, memory=budget, n_threads=2, **CONTEXT)) as llm:
            assert llm._residence.plan.embedding_on_disk
            check_everything(stock, llm)


@pytest.mark.parametrize("flash_attn", [False, True])
def test_flash_attention(model_factory, flash_attn: bool) -> None:
    with both(model_factory("qwen3moe")[0], flash_attn=flash_attn) as (stock, llm):
        check_everything(stock, llm)


@pytest.mark.parametrize("n_ubatch", [16, 33, 128])
def test_batches(model_factory, n_ubatch: int) -> None:
    with both(model_factory("olmoe", expert_type="Q4_K")[0], n_ubatch=n_ubatch) as (stock, llm):
        prompt = tokens_for(llm, 100, seed=2)
        np.testing.assert_array_equal(prompt_logits(llm, prompt), prompt_logits(stock, prompt))


def test_dense_model(model_factory) -> None:
    with both(model_factory("llama")[0]) as (stock, llm):
        assert any("no experts" in note for note in llm.notes)
        check_everything(stock, llm)
