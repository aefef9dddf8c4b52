"""Sequences that one context computes together give what stock llama.cpp gives for the same batches."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import llama_cpp.llama_cpp as bindings
import numpy as np
import pytest

from edgemoe import Cancelled, EdgeMoEError, Llama, ReadError
from edgemoe.batching import Batch
from edgemoe.default_model import default_model_path
from stock import greedy, stock_llama
from trained import f16_model_path

OPTIONS = {"n_ctx": 1024, "n_batch": 64, "n_ubatch": 64, "n_threads": 1, "n_threads_batch": 1}
TEXTS = ["Once upon a time there was a dog", "The girl went to", "It was raining", "One day, a big red bird"]


@contextlib.contextmanager
def opened(path: object, n_seq_max: int = 4, **options: object) -> Iterator[Llama]:
    with contextlib.closing(Llama(path, n_seq_max=n_seq_max, **({"memory": None} | OPTIONS | options))) as llm:
        yield llm


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    generator = random.Random(seed)
    return [[generator.randrange(60) for _ in range(length)] for length in (9, 3, 14, 6)[:count]]


class StockBatch:
    """Rows of several sequences through llama_decode as llama.cpp's own programs call it."""

    def __init__(self, llm: object) -> None:
        self.llm = llm
        self.memory = bindings.llama_get_memory(llm.ctx)
        self.rows: list[tuple[int, int, int, bool]] = []

    def put(self, slot: int, tokens: list[int], position: int) -> None:
        last = len(tokens) - 1
        self.rows += [(slot, token, position + i, i == last) for i, token in enumerate(tokens)]

    def logits(self) -> dict[int, np.ndarray]:
        """By slot, after the rows put since the last call."""
        batch = bindings.llama_batch_init(len(self.rows), 0, 1)
        batch.n_tokens = len(self.rows)
        for i, (slot, token, position, wanted) in enumerate(self.rows):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, slot
        assert bindings.llama_decode(self.llm.ctx, batch) == 0
        size = (self.llm.n_vocab(),)
        found = {
            slot: np.ctypeslib.as_array(bindings.llama_get_logits_ith(self.llm.ctx, i), shape=size).copy()
            for i, (slot, _, _, wanted) in enumerate(self.rows)
            if wanted
        }
        bindings.llama_batch_free(batch)
        self.rows = []
        return found

    def move(self, source: int, target: int) -> None:
        bindings.llama_memory_seq_rm(self.memory, target, -1, -1)
        bindings.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        bindings.llama_memory_seq_rm(self.memory, source, -1, -1)


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("qwen3moe", {"expert_type": "F32"}),
        ("qwen3moe", {"expert_type": "Q4_K"}),
        ("gpt-oss", {}),
        ("deepseek2", {}),
        ("llama4", {}),
        ("nemotron_h_moe", {}),
    ],
)
def test_batches_are_those_of_stock(model_factory, arch: str, options: dict) -> None:
    """Prompts, steps, a sequence that leaves (the last one takes its slot), and one that joins, bit for bit."""
    path = model_factory(arch, **options)[0]
    stock_options = {"n_seq_max": 4} | OPTIONS
    with (
        contextlib.closing(stock_llama(path, **stock_options)) as stock,
        opened(path) as llm,
        Batch(llm) as batch,
    ):
        reference = StockBatch(stock)
        slots = {batch.add(prompt): slot for slot, prompt in enumerate(prompts(3))}
        done = dict.fromkeys(slots, 0)

        def check() -> None:
            for name, slot in sorted(slots.items(), key=lambda item: item[1]):
                reference.put(slot, batch.tokens(name)[done[name] :], done[name])
                done[name] = len(batch.tokens(name))
            expected = reference.logits()
            found = batch.step()
            assert set(found) == set(slots)
            for name, logits in found.items():
                np.testing.assert_array_equal(logits, expected[slots[name]])
                batch.push(name, int(logits.argmax()))

        for _ in range(4):
            check()
        leaving, _, last = slots
        batch.remove(leaving)
        reference.move(slots[last], slots.pop(leaving))
        slots[last] = 0
        check()
        joining = batch.add(prompts(4)[3])
        slots[joining], done[joining] = 2, 0
        for _ in range(3):
            check()


@pytest.mark.parametrize("n_seq_max", [2, 4])
@pytest.mark.parametrize("expert_type", ["F16", "F32"])
def test_sequences_are_those_of_single_runs(model_factory, expert_type: str, n_seq_max: int) -> None:
    trained = expert_type == "F16"
    path = f16_model_path() if trained else model_factory("qwen3moe", expert_type="F32")[0]
    with opened(path, n_seq_max) as llm:
        begin = [llm.tokenize(text.encode()) for text in TEXTS] if trained else prompts(4)
        alone = [greedy(llm, prompt, 24) for prompt in begin[:n_seq_max]]
        with Batch(llm) as batch:
            names = [batch.add(prompt) for prompt in begin[:n_seq_max]]
            advance(batch, 24)
            together = [batch.tokens(name)[len(prompt) :] for name, prompt in zip(names, begin, strict=False)]
        assert together == alone
        assert greedy(llm, begin[0], 24) == alone[0], "the model serves single requests again"


def advance(batch: Batch, steps: int) -> None:
    for _ in range(steps):
        for name, logits in batch.step().items():
            batch.push(name, int(logits.argmax()))


def test_the_order_of_leaving_does_not_matter() -> None:
    with opened(f16_model_path()) as llm:
        begin = [llm.tokenize(text.encode()) for text in TEXTS]
        alone = greedy(llm, begin[3], 32)
        for leaving in ([0], [1, 0], [0, 2, 1], [2]):
            with Batch(llm) as batch:
                names = [batch.add(prompt) for prompt in begin]
                advance(batch, 8)
                for name in leaving:
                    batch.remove(names[name])
                    advance(batch, 8)
                advance(batch, 24 - 8 * len(leaving))
                assert batch.tokens(names[3])[len(begin[3]) :] == alone


def test_shared_experts_are_read_once(model_factory) -> None:
    """With a cache below one layer's experts, every batch reads: the more sequences, the fewer bytes for each token."""
    path = model_factory("qwen3moe", expert_type="F16", n_expert=16, n_layer=4, n_embd=256, n_ff_exp=256)[0]
    read = {}
    for n_seq_max in (1, 4, 16):
        with opened(path, n_seq_max, n_ctx=256 * n_seq_max, n_batch=256, cache=0.25) as llm, Batch(llm) as batch:
            for i in range(n_seq_max):
                batch.add(prompts(1, seed=i)[0])
            advance(batch, 1)
            before = llm.stats()
            advance(batch, 12)
            growth = llm.stats().since(before)
            assert growth.decode_tokens == 12 * n_seq_max
            assert growth.prompt_tokens == 0
            read[n_seq_max] = growth.bytes_read / growth.decode_tokens
    assert read[16] < read[4] < read[1]


def test_a_long_prompt_does_not_hold_up_the_others(model_factory) -> None:
    with opened(model_factory("qwen3moe")[0], n_batch=16, n_ubatch=16) as llm, Batch(llm) as batch:
        first = batch.add([1, 2, 3])
        [logits] = batch.step().values()
        late = batch.add([5] * 100)
        steps = 0
        while late not in (found := batch.step()) or steps == 0:
            batch.push(first, int(logits.argmax()))
            logits = found.get(first, logits)
            steps += 1
        assert steps >= 100 // 16
        assert len(batch.tokens(first)) == 3 + steps
        alone = stock_free_logits(llm, batch.tokens(late), batch)
        assert np.abs(found[late] - alone).max() < 1e-3


def stock_free_logits(llm: Llama, tokens: list[int], batch: Batch) -> np.ndarray:
    """Of `tokens` alone, after the other sequences have ended."""
    batch.close()
    with Batch(llm) as single:
        single.add(tokens)
        while not (found := single.step()):
            pass
        return next(iter(found.values()))


@pytest.mark.parametrize("arch", ["qwen3moe", "gpt-oss", "nemotron_h_moe"])
def test_a_cancelled_step_loses_nothing(model_factory, arch: str) -> None:
    with opened(model_factory(arch)[0]) as llm:

        def run(cancelled_at: int | None) -> list[list[int]]:
            with Batch(llm) as batch:
                names = [batch.add(prompt) for prompt in prompts(3)]
                for step in range(12):
                    if step == cancelled_at:
                        llm.cancel()
                        with pytest.raises(Cancelled):
                            batch.step()
                    advance(batch, 1)
                return [batch.tokens(name) for name in names]

        expected = run(None)
        assert run(0) == expected
        assert run(6) == expected


def test_steps_cancelled_at_any_moment_lose_nothing(model_factory) -> None:
    path = model_factory("qwen3moe", expert_type="F16", n_expert=32)[0]
    with opened(path, cache=0.3) as llm, Batch(llm) as batch:
        names = [batch.add(prompt) for prompt in prompts(3)]
        ended = threading.Event()

        def cancel() -> None:
            while not ended.wait(0.004):
                llm.cancel()

        other = threading.Thread(target=cancel)
        other.start()
        cancelled = 0
        for _ in range(60):
            try:
                advance(batch, 1)
            except Cancelled:
                cancelled += 1
        ended.set()
        other.join()
        assert cancelled > 0
        while len(batch.tokens(names[0])) < 9 + 60:  # a flag may still be set
            with contextlib.suppress(Cancelled):
                advance(batch, 1)
        found = [batch.tokens(name) for name in names]
        batch.close()
        with Batch(llm) as undisturbed:
            names = [undisturbed.add(prompt) for prompt in prompts(3)]
            advance(undisturbed, 60)
            assert [undisturbed.tokens(name) for name in names] == found


def test_a_failed_read_loses_nothing(model_factory, tmp_path: Path) -> None:
    source = model_factory("qwen3moe", expert_type="F16", n_expert=32)[0]
    path = tmp_path / "model.gguf"
    path.write_bytes(source.read_bytes())
    with opened(path) as llm, Batch(llm) as batch:
        name = batch.add([1, 2, 3])
        os.truncate(path, 4096)
        with pytest.raises(ReadError):
            batch.step()
        path.write_bytes(source.read_bytes())
        advance(batch, 8)
        assert batch.tokens(name)[3:] == greedy_alone(source, [1, 2, 3], 8)


def greedy_alone(path: Path, prompt: list[int], count: int) -> list[int]:
    with opened(path, 1) as llm:
        return greedy(llm, prompt, count)


def test_what_does_not_fit_is_an_error(model_factory) -> None:
    path = model_factory("qwen3moe")[0]
    with opened(path, 2, n_ctx=512) as llm, Batch(llm) as batch:
        assert batch.free == 2
        assert batch.step() == {}
        first = batch.add([1] * 256)
        batch.add([2])
        with pytest.raises(EdgeMoEError, match="holds 2 sequences"):
            batch.add([1])
        with pytest.raises(EdgeMoEError, match="257 tokens does not fit: the context has 256"):
            batch.push(first, 1)
        batch.remove(first)
        with pytest.raises(EdgeMoEError, match=f"no sequence {first}"):
            batch.push(first, 1)
        with pytest.raises(EdgeMoEError, match="at least one token"):
            batch.add([])
        with pytest.raises(EdgeMoEError, match="100000000 is no token"):
            batch.add([100_000_000])
    for wrong in (0, 65, 1000):
        with pytest.raises(EdgeMoEError, match=f"n_seq_max={wrong} is out of range"):
            Llama(path, n_seq_max=wrong, **OPTIONS)
    with pytest.raises(EdgeMoEError, match="exclude each other"):
        Llama(path, n_seq_max=2, embedding=True, **OPTIONS)


def test_other_requests_wait_until_the_sequences_end(model_factory) -> None:
    with opened(model_factory("qwen3moe")[0]) as llm:
        batch = Batch(llm)
        batch.add([1, 2, 3])
        advance(batch, 2)
        answered = threading.Event()

        def ask() -> None:
            llm.eval([4, 5])
            answered.set()

        other = threading.Thread(target=ask)
        other.start()
        assert not answered.wait(0.3)
        advance(batch, 2)
        batch.close()
        other.join(timeout=30)
        assert answered.is_set()
        assert llm.n_tokens == 2


def test_using_the_model_meanwhile_is_an_error(model_factory) -> None:
    with opened(model_factory("qwen3moe")[0]) as llm:
        with Batch(llm) as batch:
            batch.add([1, 2, 3])
            llm.eval([4, 5])
            with pytest.raises(EdgeMoEError, match="used for something else"):
                batch.step()
        with Batch(llm) as batch:
            batch.add([1, 2, 3])
            next(llm.generate([4, 5], temp=0.0))
            with pytest.raises(EdgeMoEError, match="later request"):
                batch.step()


def test_memory_of_sequences_is_planned(model_factory) -> None:
    path = model_factory("qwen3moe")[0]
    with opened(path, 1, n_ctx=512) as one, opened(path, 8, n_ctx=8 * 512, memory="2GiB") as eight:
        assert eight.n_ctx() == 8 * one.n_ctx()
        assert eight._residence.plan.parts["KV cache"] >= 8 * one._residence.plan.parts["KV cache"] * 0.9


# Sequences that go on from what others left


@pytest.mark.parametrize("arch", ["qwen3moe", "gpt-oss", "nemotron_h_moe"])
def test_a_sequence_that_is_rewritten_keeps_its_beginning(model_factory, arch: str) -> None:
    first, other = prompts(2)
    with opened(model_factory(arch)[0]) as llm, Batch(llm) as batch:
        name = batch.add(first)
        advance(batch, 4)
        told = batch.tokens(name)
        longer = [*told, *other]
        cut = [*told[:5], *other]
        whole = arch != "qwen3moe"  # their memory cannot be cut to an earlier token
        for tokens, kept in ((longer, len(told) - 1), (cut, 0 if whole else 5), (cut, 0 if whole else len(cut) - 1)):
            assert batch.shared(name, tokens) == kept
            assert batch.rewrite(name, tokens) == kept
            assert batch.pending(name) == len(tokens) - kept
            [found] = batch.step().values()
            assert int(found.argmax()) == greedy_next(batch, tokens)


def greedy_next(batch: Batch, tokens: list[int]) -> int:
    """Of the same tokens in a new sequence."""
    name = batch.add(tokens)
    [logits] = batch.step().values()
    batch.remove(name)
    return int(logits.argmax())


def test_what_another_quality_computed_is_computed_again() -> None:
    with opened(default_model_path()) as llm, Batch(llm) as batch:
        name = batch.add([5, 6, 7, 8], "fast")
        batch.step()
        assert batch.shared(name, [5, 6, 7, 8, 9], "fast") == 4
        assert batch.shared(name, [5, 6, 7, 8, 9]) == 0
        assert batch.rewrite(name, [5, 6, 7, 8, 9]) == 0
        with pytest.raises(EdgeMoEError, match="at least one token"):
            batch.rewrite(name, [])
        assert batch.tokens(name) == [5, 6, 7, 8, 9]


def test_tokens_that_wait_can_be_dropped(model_factory) -> None:
    with opened(model_factory("qwen3moe")[0]) as llm, Batch(llm) as batch:
        name = batch.add([1] * 200)
        assert batch.step() == {}
        batch.drop_waiting(name)
        assert batch.tokens(name) == [1] * 64
        assert batch.step() == {}
        assert batch.rewrite(name, [1] * 70) == 64


def test_a_step_may_be_made_smaller(model_factory) -> None:
    with opened(model_factory("qwen3moe")[0]) as llm, Batch(llm) as batch:
        long, short = batch.add([1] * 60), batch.add([2] * 3)
        assert set(batch.step(8)) == {short}
        assert batch.pending(long) == 55
        batch.push(short, 3)
        assert set(batch.step(1)) == {short}
        assert batch.pending(long) == 54
