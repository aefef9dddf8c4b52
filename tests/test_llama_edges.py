"""Less usual ways to use a model."""

from __future__ import annotations

import contextlib
import math
import pickle
import re
import threading

import gguf
import llama_cpp
import numpy as np
import pytest
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from edgemoe import BudgetError, EdgeMoEError, Llama, machine
from stock import decode_logits, greedy, prompt_logits, stock_llama
from trained import f16_model_path

CONTEXT = {"n_ctx": 512, "n_threads": 2}
PROMPT = "Once upon a time there was a dog. The dog had a ball. The dog"


@pytest.fixture(scope="module")
def llm():
    with contextlib.closing(Llama(f16_model_path(), **CONTEXT)) as model:
        yield model


def text(model: llama_cpp.Llama, **options: object) -> str:
    return model(PROMPT, **({"max_tokens": 40, "temperature": 0.0} | options))["choices"][0]["text"]


def test_draft_model(llm) -> None:
    drafts = LlamaPromptLookupDecoding(num_pred_tokens=6)
    with contextlib.closing(Llama(f16_model_path(), draft_model=drafts, **CONTEXT)) as model:
        assert text(model) == text(llm)


def test_a_stream_consumed_by_several_threads(llm) -> None:
    stream = llm(PROMPT, max_tokens=12, temperature=0.0, stream=True)
    pieces: list[str] = []

    def take() -> None:
        pieces.append(next(stream)["choices"][0]["text"])

    for _ in range(6):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(timeout=30)
        assert not thread.is_alive()
    pieces += [chunk["choices"][0]["text"] for chunk in stream]
    assert "".join(pieces) == text(llm, max_tokens=12)


def test_requests_with_and_without_logprobs_at_once(llm) -> None:
    expected = text(llm)
    found: list[object] = []

    def ask(**options: object) -> None:
        result = llm(PROMPT, max_tokens=40, temperature=0.0, **options)["choices"][0]
        found.append((result["text"].removeprefix(PROMPT) == expected, options, result["logprobs"] is not None))

    kinds = [{}, {"logprobs": 1}, {"logprobs": 1, "echo": True}, {}] * 2
    threads = [threading.Thread(target=ask, kwargs=options) for options in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(kinds)
    for same, options, has_logprobs in found:
        assert same, options
        assert has_logprobs == ("logprobs" in options)
    assert llm.scores.nbytes == 0


def test_bad_arguments_do_not_lock_others_out(llm) -> None:
    with pytest.raises(TypeError):
        next(llm.generate([1, 2], temperature=0.5))
    done = threading.Thread(target=text, args=(llm,))
    done.start()
    done.join(timeout=60)
    assert not done.is_alive()


@pytest.mark.parametrize("name", ["n_threads", "n_threads_batch"])
def test_too_many_threads(name: str) -> None:
    with pytest.raises(EdgeMoEError, match=f"{name}=513 is too many: use 1 to 512"):
        Llama(f16_model_path(), n_ctx=256, **{name: 513})


def test_context_that_llama_cpp_rounds_up() -> None:
    with contextlib.closing(Llama(f16_model_path(), n_ctx=300, n_threads=2)) as model:
        tokens = [(i * 37) % 4000 for i in range(model.n_ctx() - 4)]
        model.eval(tokens[:290])
        model.eval(tokens[290:])
        assert list(model._input_ids) == tokens


def test_contexts_longer_than_trained_are_noted() -> None:
    for n_ctx, n_seq_max, noted in ((512, 1, False), (1024, 2, False), (1024, 1, True)):
        with contextlib.closing(Llama(f16_model_path(), n_ctx=n_ctx, n_seq_max=n_seq_max, n_threads=2)) as model:
            assert any("trained with 512" in note for note in model.notes) == noted


def test_thread_counts_below_one_mean_the_default() -> None:
    with contextlib.closing(Llama(f16_model_path(), n_ctx=256, n_threads=-1, n_threads_batch=0)) as model:
        assert model.n_threads == machine.processors()
        assert text(model)


def test_prompt_cache(llm) -> None:
    expected = text(llm)
    llm.set_cache(llama_cpp.LlamaRAMCache(capacity_bytes=64 << 20))
    try:
        assert text(llm) == expected
        text(llm, max_tokens=2)
        llm.reset()
        assert text(llm) == expected
    finally:
        llm.set_cache(None)


def test_pickling(llm) -> None:
    with contextlib.closing(pickle.loads(pickle.dumps(llm))) as copy:
        assert copy.n_ctx() == llm.n_ctx()
        assert text(copy) == text(llm)


def test_metadata_overrides_reach_the_plan(model_factory) -> None:
    path = model_factory("qwen3moe")[0]
    overrides = {"qwen3moe.expert_used_count": 2}
    options = {"n_ctx": 256, "kv_overrides": overrides, "n_threads": 2}
    with (
        contextlib.closing(stock_llama(path, n_threads_batch=2, **options)) as stock,
        contextlib.closing(Llama(path, **options)) as model,
    ):
        np.testing.assert_array_equal(decode_logits(model, [1, 2, 3]), decode_logits(stock, [1, 2, 3]))


@pytest.mark.parametrize("alignment", [64, 4096])
def test_alignment_of_the_file(model_factory, tmp_path, alignment: int) -> None:
    source = gguf.GGUFReader(model_factory("qwen3moe")[0])
    path = tmp_path / "aligned.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_custom_alignment(alignment)
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=element)
    for tensor in source.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    options = {"n_ctx": 256, "n_threads": 2}
    with (
        contextlib.closing(stock_llama(path, n_threads_batch=2, **options)) as stock,
        contextlib.closing(Llama(path, **options)) as model,
    ):
        prompt = list(range(64))
        np.testing.assert_array_equal(prompt_logits(model, prompt), prompt_logits(stock, prompt))
        assert greedy(model, [5, 6], 8) == greedy(stock, [5, 6], 8)


def test_rows_that_do_not_fit_are_refused(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512)[0]
    with contextlib.closing(Llama(path, memory=None, n_ctx=256)) as roomy:
        plan = roomy._residence.plan
    budget = machine.rss() + plan.smallest - plan.parts["Python and libraries"] + (64 << 20)
    with contextlib.closing(Llama(path, memory=budget, n_ctx=256)) as model:
        with pytest.raises(BudgetError, match="do not fit"):
            model._residence.loans.lend("something", 1 << 40)
        model.eval([1, 2, 3])


def test_dropping_the_last_reference_frees_the_model() -> None:
    model = Llama(f16_model_path(), n_ctx=256)
    before = threading.active_count()
    del model
    assert threading.active_count() < before


def test_the_half_life_decides_what_is_kept_and_nothing_else() -> None:
    logits, misses = [], []
    for half_life in (256.0, 0.01):
        settings = {"memory": None, "cache": 0.4, "n_ctx": 256, "read_ahead": False, "half_life": half_life}
        with contextlib.closing(Llama(f16_model_path(), **settings)) as llm:
            tokens = llm.tokenize(b"Once upon a time there was a little dog named Max. He liked his red ball.") * 4
            for token in tokens:
                llm.eval([token])
            logits.append(llm.scores[llm.n_tokens - 1].copy())
            misses.append(llm.stats().misses)
    assert np.array_equal(*logits)
    assert misses[0] != misses[1]


@pytest.mark.parametrize("half_life", [0, -1.0, 0.001, math.inf, math.nan])
def test_a_half_life_that_is_none(half_life: float) -> None:
    with pytest.raises(EdgeMoEError, match=re.escape(f"half_life={half_life} is out of range")):
        Llama(f16_model_path(), half_life=half_life)


def test_reading_ahead_is_on_off_or_always() -> None:
    with pytest.raises(EdgeMoEError, match="read_ahead='sometimes' is unknown: use True, False or 'always'"):
        Llama(f16_model_path(), n_ctx=64, read_ahead="sometimes")


def test_reading_ahead_changes_what_is_waited_for_and_nothing_else() -> None:
    text = "Once upon a time there was a little dog named Max. He liked to play with his red ball in the park."
    logits, misses = [], []
    for read_ahead in ("always", False):
        with contextlib.closing(
            Llama(f16_model_path(), memory=None, cache=0.4, n_ctx=256, read_ahead=read_ahead)
        ) as llm:
            tokens = llm.tokenize(text.encode()) * 4
            rows = []
            for token in tokens:
                llm.eval([token])
                rows.append(llm.scores[llm.n_tokens - 1].copy())
            logits.append(np.array(rows))
            misses.append(llm.stats().misses)
            assert llm.stats().hits + misses[-1] == 6 * 2 * len(tokens)
    assert np.array_equal(*logits)
    assert misses[0] < misses[1]
