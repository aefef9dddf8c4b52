"""The memory budget of running models: loans of cache memory, several models, and control groups."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import llama_cpp
import numpy as np
import pytest

from budgeted import OPTIONS, open_tight, run, some_tokens
from edgemoe import BudgetError, Llama
from edgemoe.budget import smallest_budget
from stock import decode_logits, last_logits, stock_llama

TOOLS = Path(__file__).resolve().parents[1] / "tools"
MIB = 1 << 20


def synthesize(path: Path, *shape: str) -> Path:
    command = [sys.executable, str(TOOLS / "synthesize_moe.py"), str(path), "--preset", "tiny", "--layers", "3", *shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 100 MB: its vocabulary is large enough for logits to count."""
    shape = ["--experts", "64", "--width", "512", "--vocab-size", "40000", "--expert-type", "f16"]
    path = synthesize(tmp_path_factory.mktemp("large") / "large.gguf", *shape)
    assert path.stat().st_size > 80 * MIB
    return path


@pytest.fixture(scope="module")
def many_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its experts take more than its 32 heads work in during a long prompt."""
    shape = ["--experts", "64", "--width", "1024", "--heads", "32", "--head-dim", "32", "--expert-type", "f16"]
    return synthesize(tmp_path_factory.mktemp("heads") / "heads.gguf", *shape)


@pytest.mark.parametrize("arch", ["gpt-oss", "deepseek2", "nemotron_h_moe"])
def test_the_smallest_budget_holds(model_factory, arch: str) -> None:
    path = model_factory(arch, n_expert=64, n_ff_exp=512)[0]
    code = """
import sys
from edgemoe import Llama, machine
budget = int(sys.argv[2])
model = Llama(sys.argv[1], memory=budget, n_ctx=512)
model.eval(list(range(250)))
for token in range(40):
    model.eval([token])
state = model.save_state()
model.load_state(state)
model("a b", max_tokens=8, logprobs=2)
print(machine.peak_rss(), model.stats().budget_bytes, model.stats().cache_bytes)
"""
    budget = smallest_budget(path, n_ctx=512).smallest
    peak, reported, cache = map(int, run(code, path, budget))
    assert peak <= budget == reported
    assert cache < smallest_budget(path, n_ctx=512).full_cache


def test_two_models_share_one_budget(model_factory) -> None:
    paths = [model_factory(arch, n_expert=64, n_ff_exp=512)[0] for arch in ("qwen3moe", "olmoe")]
    code = """
import sys
from edgemoe import BudgetError, Llama, machine
import edgemoe.llama
options = dict(n_ctx=256, n_batch=64)
first_budget = machine.rss() + (130 << 20)
first = Llama(sys.argv[1], memory=first_budget, **options)
try:
    Llama(sys.argv[2], memory=first_budget, **options)
    print("not refused")
except BudgetError:
    print("refused")
whole = first_budget + (130 << 20)
second = Llama(sys.argv[2], memory=whole, **options)
for start in range(0, 150, 10):
    for model in (first, second):
        model.reset()
        model.eval([(start + i) % 200 for i in range(50)])
        model.eval([start])
print(machine.peak_rss() <= whole)
print(min(m.stats().resident_bytes for m in (first, second)) > 0)
first.close()
second.close()
Llama(sys.argv[2], memory=first_budget, **options).close()
"""
    assert run(code, *paths) == ["refused", "True", "True"]


@pytest.fixture
def tight(large: Path) -> Iterator[Llama]:
    with contextlib.closing(open_tight(large, 0.8, **OPTIONS)) as llm:
        yield llm


@pytest.fixture(scope="module")
def expected(large: Path) -> np.ndarray:
    """Stock llama.cpp's logits after each of ten tokens."""
    with contextlib.closing(stock_llama(large, **OPTIONS)) as stock:
        return decode_logits(stock, some_tokens(10))


def test_loans_come_out_of_the_cache_and_return(tight: Llama, expected: np.ndarray) -> None:
    residence = tight._residence
    whole = tight.stats().cache_bytes
    slot = whole // 64
    for size in (10 * MIB, 20 * MIB, 5 * MIB):
        residence.loans.lend("a test", size)
        left = tight.stats().cache_bytes
        assert residence.share.minimum_cache <= left <= whole - size + slot
        assert tight.stats().resident_bytes <= left
        np.testing.assert_array_equal(decode_logits(tight, some_tokens(10)), expected)
    residence.loans.lend("small change", 1000)
    residence.loans.give_back("a test")
    np.testing.assert_array_equal(decode_logits(tight, some_tokens(10)), expected)
    assert tight.stats().cache_bytes == whole


def largest_loan(llm: Llama, name: str) -> int:
    """Lends as much as is given, to a MiB, and returns it."""
    low, high = 0, llm._residence.loans.room.bytes
    while high - low > MIB:
        middle = (low + high) // 2
        try:
            llm._residence.loans.lend(name, middle)
            low = middle
        except BudgetError:
            high = middle
        llm._residence.loans.lend(name, 0)
    llm._residence.loans.lend(name, low)
    return low


def test_what_does_not_fit_is_not_lent(tight: Llama, expected: np.ndarray) -> None:
    whole = tight.stats().cache_bytes
    with pytest.raises(BudgetError, match="a test"):
        tight._residence.loans.lend("a test", 1 << 40)
    assert tight.stats().cache_bytes == whole
    assert 0 < largest_loan(tight, "a test") < tight._residence.loans.room.bytes
    assert tight.stats().cache_bytes >= tight._residence.share.minimum_cache
    np.testing.assert_array_equal(decode_logits(tight, some_tokens(10)), expected)


def test_loans_leave_room_for_a_prompt(tight: Llama) -> None:
    """What a prompt computes in is part of the budget, whatever else has been lent."""
    residence = tight._residence
    largest_loan(tight, "a test")
    tight.eval(some_tokens(200))
    assert tight.stats().cache_bytes >= residence.share.minimum_cache
    assert tight.stats().cache_bytes + residence.loans.total <= residence.loans.room.bytes


def test_prompts_borrow_from_the_cache(large: Path, tight: Llama) -> None:
    tight.eval([1])
    whole = tight.stats().cache_bytes
    n_ubatch = tight._residence.plan.shape.n_ubatch
    assert n_ubatch > 32
    with contextlib.closing(stock_llama(large, n_ubatch=n_ubatch, **OPTIONS)) as stock:
        for _ in range(2):
            for model in (stock, tight):
                model.reset()
                model.eval(some_tokens(200))
            assert tight._residence.share.minimum_cache <= tight.stats().cache_bytes < whole
            np.testing.assert_array_equal(last_logits(tight), last_logits(stock))
            for token in (5, 6):
                stock.eval([token])
                tight.eval([token])
                assert tight.stats().cache_bytes == whole
                np.testing.assert_array_equal(last_logits(tight), last_logits(stock))


def test_a_long_prompt_reads_experts_once(model_factory) -> None:
    """As many tokens at once as have room, of which llama_cpp's own buffers know nothing; the results are stock's."""
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=1024, n_embd=512, expert_type="Q8_0")[0]
    options = {"n_ctx": 1024, "n_threads": 2, "n_threads_batch": 2, "flash_attn": True}
    prompt, reads = [token % 300 for token in some_tokens(1000)], []
    for asked in ({}, {"n_batch": 64}):
        with contextlib.closing(open_tight(path, 0.6, **options, **asked)) as llm:
            n_ubatch = llm._residence.plan.shape.n_ubatch
            assert n_ubatch == llm.context_params.n_ubatch
            assert n_ubatch == 64 if asked else n_ubatch > 512, n_ubatch
            llm.eval(prompt)
            reads.append(llm.stats().bytes_read)
            restored = llm.__getstate__()
            assert ("n_batch" in restored) == bool(asked)
            with contextlib.closing(stock_llama(path, n_batch=llm.n_batch, n_ubatch=n_ubatch, **options)) as stock:
                stock.eval(prompt)
                np.testing.assert_array_equal(last_logits(llm), last_logits(stock))
    assert reads[0] < 0.6 * reads[1]


LONG_PROMPT = """
import sys
from edgemoe import Llama, machine
path, budget = sys.argv[1], int(sys.argv[2])
llm = Llama(path, memory=budget, n_ctx=4096, n_ubatch=256, n_threads=2, n_threads_batch=2)
llm.eval([1, 2])
before = machine.rss() - llm.stats().resident_bytes
llm.reset()
llm.eval([token % 300 for token in range(3000)])
llm.eval([1])
after = machine.rss() - llm.stats().resident_bytes
print(llm._residence.plan.parts["attention"], before, after, llm.stats().peak_bytes)
"""


def test_what_attention_worked_in_goes_back_after_a_prompt(many_heads: Path) -> None:
    """ggml keeps it, and it grows with heads, batch and the tokens before it: here 64 MiB."""
    budget = smallest_budget(many_heads, n_ctx=4096).smallest + 240 * MIB
    attention, before, after, peak = map(int, run(LONG_PROMPT, many_heads, budget))
    assert attention == 2 * 32 * 256 * 4096
    assert after - before < attention / 2
    assert peak <= budget


def test_log_probabilities_borrow_from_the_cache(large: Path, tight: Llama) -> None:
    options = {"max_tokens": 6, "temperature": 0.0, "logprobs": 2}
    with contextlib.closing(stock_llama(large, logits_all=True, **OPTIONS)) as stock:
        theirs = stock("The cat sat", **options)["choices"][0]
    tight.eval([1])
    whole = tight.stats().cache_bytes
    tight.reset()
    sizes, text = [], ""
    for chunk in tight("The cat sat", stream=True, **options):
        sizes.append(tight.stats().cache_bytes)
        text += chunk["choices"][0]["text"]
    assert tight._residence.share.minimum_cache <= min(sizes) < whole
    assert text == theirs["text"]
    tight.eval([1])
    assert tight.stats().cache_bytes == whole


def test_a_state_borrows_for_as_long_as_it_is_kept(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=256, n_embd=512)[0]
    options = OPTIONS | {"n_ctx": 1024, "type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    history = [i % 200 for i in range(901)]

    def next_logits(llm: Llama) -> np.ndarray:
        llm.eval([7])
        return last_logits(llm)

    with contextlib.closing(open_tight(path, 0.5, **options)) as llm:
        llm.eval(history)
        llm.eval([1])
        whole = llm.stats().cache_bytes
        state = llm.save_state()
        assert llm._residence.share.minimum_cache <= llm.stats().cache_bytes < whole - state.llama_state_size // 2
        later = next_logits(llm)
        llm.eval([3])
        llm.load_state(state)
        assert llm.n_tokens == len(history) + 1
        del state
        np.testing.assert_array_equal(next_logits(llm), later)
        assert llm.stats().cache_bytes == whole


# In a control group


@pytest.mark.parametrize("slack", [1.0, 1.2])
def test_a_control_group_of_the_budget_does_not_kill_it(large: Path, prove_budget: ModuleType, slack: float) -> None:
    plan = smallest_budget(large, n_ctx=512)
    budget = int(plan.smallest * slack)
    assert budget < plan.comfortable
    result = prove_budget.prove(str(large), budget, 512, 300, 50)
    assert not result["killed"], result
    assert result["within"], result
    assert result["group_peak"] <= budget
