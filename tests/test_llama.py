"""Everything that llama_cpp.Llama does, done over experts on disk."""

from __future__ import annotations

import contextlib
import gc
import json
import threading
import time

import llama_cpp
import numpy as np
import pytest

import edgemoe
from edgemoe import Cancelled, EdgeMoEError, Llama, _native, machine
from stock import decode_logits, greedy, stock_llama
from trained import f16_model_path

CONTEXT = {"n_ctx": 512, "n_threads": 2}
MESSAGES = [{"role": "user", "content": "Tell me a story about a dog."}]


@pytest.fixture(scope="module")
def llm():
    with contextlib.closing(Llama(f16_model_path(), **CONTEXT)) as model:
        yield model


@pytest.fixture(scope="module")
def stock():
    model = stock_llama(f16_model_path(), n_threads_batch=2, logits_all=True, **CONTEXT)
    with contextlib.closing(model):
        yield model


def answer(model: llama_cpp.Llama, **kwargs: object) -> str:
    options = {"max_tokens": 40, "temperature": 0.0} | kwargs
    return model.create_chat_completion(MESSAGES, **options)["choices"][0]["message"]["content"]


def test_is_a_drop_in(llm, stock) -> None:
    assert isinstance(llm, llama_cpp.Llama)
    assert answer(llm) == answer(stock)
    assert answer(llm, temperature=0.8, seed=7) == answer(stock, temperature=0.8, seed=7)


def test_streaming(llm) -> None:
    chunks = llm.create_chat_completion(MESSAGES, max_tokens=40, temperature=0.0, stream=True)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == answer(llm)


def test_json_schema(llm) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"]}
    text = answer(llm, response_format={"type": "json_object", "schema": schema}, max_tokens=60)
    assert isinstance(json.loads(text, strict=False)["name"], str)


def test_grammar(llm) -> None:
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "yes" | "no"', verbose=False)
    assert llm("Is it raining?", grammar=grammar, max_tokens=4)["choices"][0]["text"] in ("yes", "no")


def test_tools(llm, stock) -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}},
    }
    options = dict(tools=[tool], tool_choice={"type": "function", "function": {"name": "f"}}, temperature=0.0)
    calls = [
        model.create_chat_completion(MESSAGES, max_tokens=24, **options)["choices"][0]["message"]
        for model in (llm, stock)
    ]
    assert calls[0].get("tool_calls", calls[0]["content"]) is not None
    assert calls[0]["content"] == calls[1]["content"]


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(llm, stock, echo: bool, stream: bool) -> None:
    def collect(model: llama_cpp.Llama) -> list[float | None]:
        options = dict(max_tokens=6, temperature=0.0, logprobs=3, echo=echo and not stream, stream=stream)
        result = model("Once upon a time", **options)
        parts = list(result) if stream else [result]
        return [
            p for part in parts for p in (part["choices"][0]["logprobs"] or {"token_logprobs": []})["token_logprobs"]
        ]

    ours, theirs = collect(llm), collect(stock)
    assert len(ours) == len(theirs) > 0
    np.testing.assert_allclose(
        [x for x in ours if x is not None], [x for x in theirs if x is not None], rtol=1e-4, atol=1e-4
    )
    assert llm.scores.nbytes == 0


def test_logits_all(stock) -> None:
    tokens = stock.tokenize(b"Once upon a time there was a little girl")
    with contextlib.closing(Llama(f16_model_path(), logits_all=True, **CONTEXT)) as model:
        model.eval(tokens)
        stock.reset()
        stock.eval(tokens)
        np.testing.assert_allclose(np.asarray(model._scores), stock._scores, rtol=1e-3, atol=1e-3)


def test_stopping_criteria_and_logits_processor(llm) -> None:
    seen: list[int] = []

    def stop(ids, logits) -> bool:
        seen.append(len(logits))
        return len(seen) >= 3

    def only_first(ids, logits):
        logits[1000:] = -np.inf
        return logits

    tokens = llm.tokenize(b"Once upon a time")
    found = list(
        llm.generate(
            tokens,
            temp=0.0,
            stopping_criteria=llama_cpp.StoppingCriteriaList([stop]),
            logits_processor=llama_cpp.LogitsProcessorList([only_first]),
        )
    )
    assert len(found) == 2
    assert max(found) < 1000
    assert set(seen) == {llm.n_vocab()}


def test_state_round_trip(llm) -> None:
    tokens = llm.tokenize(b"Once upon a time there was")
    llm.reset()
    llm.eval(tokens)
    state = llm.save_state()
    after = greedy_from_here(llm, 8)
    llm.reset()
    llm.eval(llm.tokenize(b"Something else entirely"))
    llm.load_state(state)
    assert llm.n_tokens == len(tokens)
    assert greedy_from_here(llm, 8) == after


def greedy_from_here(model: Llama, count: int) -> list[int]:
    tokens = list(model._input_ids)
    found = []
    for token in model.generate(tokens, temp=0.0):
        found.append(token)
        if len(found) == count:
            return found
    return found


def test_embeddings() -> None:
    with (
        contextlib.closing(Llama(f16_model_path(), embedding=True, **CONTEXT)) as model,
        contextlib.closing(stock_llama(f16_model_path(), embedding=True, n_threads_batch=2, **CONTEXT)) as other,
    ):
        np.testing.assert_allclose(model.embed("a dog"), other.embed("a dog"), rtol=1e-4, atol=1e-4)


def test_prefix_is_reused(llm) -> None:
    llm.reset()
    answer(llm, max_tokens=8)
    before = llm.stats()
    answer(llm, max_tokens=8)
    assert llm.stats().since(before).prompt_tokens <= 1


def test_stats_count_every_routed_expert(model_factory) -> None:
    path = model_factory("qwen3moe", expert_type="Q8_0", n_expert=32)[0]
    routed: list[int] = []

    with contextlib.closing(Llama(path, n_ctx=256, cache="60%")) as model:
        model._residence._engine.record_trace(True)
        tokens = [(7 * i) % 200 for i in range(40)]
        decode_logits(model, tokens)
        model.reset()
        model.eval(tokens)
        for _, _, experts, *_ in model._residence._engine.take_trace():
            assert len(set(experts)) == len(experts)
            routed.append(len(experts))
        stats = model.stats()
    assert stats.hits + stats.misses == sum(routed)
    assert stats.hits > 0
    assert stats.misses > 0
    assert stats.prompt_tokens == 40
    assert stats.decode_tokens == 40


def test_experts_never_enter_llama_cpps_buffers(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512, n_embd=512)[0]
    gc.collect()
    machine.return_free_memory()
    before = machine.rss()
    with contextlib.closing(Llama(path, n_ctx=256)) as model:
        experts = model._residence._engine.full_cache()
        assert experts > 150 << 20
        assert machine.rss() - before < experts // 4
        assert model.stats().cache_bytes == experts


def test_cancel_and_interrupt_leave_the_model_usable() -> None:
    with contextlib.closing(Llama(f16_model_path(), cache="15%", **CONTEXT)) as model:
        reference = answer(model)
        _native.set_read_fault(bytes_per_second=20_000_000)
        try:
            for _ in range(2):
                model.reset()
                timer = threading.Timer(0.2, model.cancel)
                timer.start()
                with pytest.raises(Cancelled):
                    model(b"word ".decode() * 400, max_tokens=50)
                timer.join()
        finally:
            _native.set_read_fault()
        model.cancel()  # nothing is running: nothing happens
        assert answer(model) == reference


def test_cancel_is_prompt_on_a_slow_disk(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512, n_embd=512)[0]
    with contextlib.closing(Llama(path, n_ctx=1024, n_batch=512)) as model:
        _native.set_read_fault(bytes_per_second=90_000_000)
        try:
            asked = []

            def cancel() -> None:
                asked.append(time.perf_counter())
                model.cancel()

            threading.Timer(0.5, cancel).start()
            with pytest.raises(Cancelled):
                model.eval([i % 200 for i in range(512)])
            assert time.perf_counter() - asked[0] < 0.5
        finally:
            _native.set_read_fault()
        model.eval([1, 2, 3])


def test_several_threads_take_turns(llm) -> None:
    expected = answer(llm)
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(answer(llm))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_a_later_request_ends_an_open_generator(llm) -> None:
    open_stream = llm.create_chat_completion(MESSAGES, max_tokens=40, temperature=0.0, stream=True)
    for _ in range(3):
        next(open_stream)
    assert answer(llm)
    with pytest.raises(EdgeMoEError, match="ended by a later request"):
        list(open_stream)


def test_two_models_and_reopening_free_their_memory(model_factory) -> None:
    first, second = model_factory("qwen3moe")[0], model_factory("gpt-oss")[0]
    with contextlib.closing(Llama(first, n_ctx=256)) as a, contextlib.closing(Llama(second, n_ctx=256)) as b:
        tokens = [5, 6, 7, 8]
        expected = greedy(a, tokens, 8), greedy(b, tokens, 8)
        assert (greedy(a, tokens, 8), greedy(b, tokens, 8)) == expected
    grown = []
    for _ in range(6):
        with contextlib.closing(Llama(first, n_ctx=256)) as model:
            assert greedy(model, tokens, 8) == expected[0]
        gc.collect()
        machine.return_free_memory()
        grown.append(machine.rss())
    assert grown[-1] - grown[1] < 8 << 20
    assert threading.active_count() < 8


def test_a_plain_llama_beside_it_is_untouched(llm, stock) -> None:
    tokens = stock.tokenize(b"Once upon a time")
    alone = decode_logits(stock, tokens)
    with (
        contextlib.closing(Llama(f16_model_path(), **CONTEXT)),
        contextlib.closing(stock_llama(f16_model_path(), n_threads_batch=2, **CONTEXT)) as other,
    ):
        np.testing.assert_array_equal(decode_logits(other, tokens), alone)


def test_models_open_at_the_same_moment() -> None:
    opened: list[object] = []

    def open_stock() -> None:
        opened.append(stock_llama(f16_model_path(), n_threads_batch=2, **CONTEXT))

    def open_ours() -> None:
        opened.append(Llama(f16_model_path(), **CONTEXT))

    threads = [threading.Thread(target=f) for f in (open_stock, open_ours, open_stock, open_ours)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    texts = {answer(model) for model in opened}
    for model in opened:
        model.close()
    assert len(texts) == 1


def test_quantized_value_cache_turns_flash_attention_on() -> None:
    options = dict(type_k=llama_cpp.GGML_TYPE_Q8_0, type_v=llama_cpp.GGML_TYPE_Q8_0)
    with contextlib.closing(Llama(f16_model_path(), **options, **CONTEXT)) as model:
        assert any("flash attention" in note for note in model.notes)
        assert answer(model)
        quantized = model._residence.plan.parts["KV cache"]
    with contextlib.closing(Llama(f16_model_path(), **CONTEXT)) as model:
        assert quantized < model._residence.plan.parts["KV cache"]


def test_unknown_quality_is_refused() -> None:
    with pytest.raises(EdgeMoEError, match="quality='nice'"):
        Llama(f16_model_path(), quality="nice")


def test_import_is_light() -> None:
    import subprocess
    import sys

    code = "import edgemoe, sys; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert edgemoe.__version__
