"""The memory budget of a running model: `set_memory`, and memory="auto" in a control group that others fill."""

from __future__ import annotations

import contextlib
import json
import random
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from budgeted import open_tight, run
from edgemoe import BudgetError, EdgeMoEError, Llama, machine
from edgemoe.chat.chat import Chat
from edgemoe.chat.commands.registry import run_command
from edgemoe.chat.screen import Screen
from edgemoe.chat.session import ChatSession
from edgemoe.chat.settings import Settings
from edgemoe.default_model import default_model_path
from models import write_model
from stock import decode_logits, greedy

MIB = 1 << 20
OPTIONS = {"n_ctx": 512, "n_batch": 64, "n_threads": 1, "n_threads_batch": 1}


@pytest.fixture(scope="module")
def even(model_factory) -> Path:
    """A model of 158 MB whose experts are used about equally often."""
    return model_factory("qwen3moe", n_expert=64, n_ff_exp=512, n_embd=512, expert_type="Q8_0")[0]


def tokens(count: int) -> list[int]:
    return [random.Random(i).randrange(300) for i in range(count)]


@pytest.fixture
def llm(even: Path) -> Iterator[Llama]:
    with contextlib.closing(Llama(even, memory=None, **OPTIONS)) as model:
        yield model


@pytest.fixture(scope="module")
def expected(even: Path) -> dict[str, Any]:
    """What the model gives without a limit."""
    with contextlib.closing(Llama(even, memory=None, **OPTIONS)) as model:
        logits = decode_logits(model, tokens(10))
        return {"logits": logits, "tokens": greedy(model, tokens(60), 60)}


def smallest(llm: Llama) -> int:
    """The budget that a refusal names."""
    with pytest.raises(BudgetError, match="too small") as refused:
        llm.set_memory(MIB)
    [size] = re.findall(r"the smallest is (\d+) MiB now", str(refused.value))
    return int(size) * MIB


def test_shrinking_gives_memory_back(llm: Llama, expected: dict[str, Any]) -> None:
    llm.eval(tokens(400))  # they use most experts
    llm.eval([1])
    before, full = machine.rss(), llm.stats()
    assert full.resident_bytes > 80 * MIB
    assert full.budget_bytes is None
    budget = smallest(llm)
    llm.set_memory(budget)
    shrunk = llm.stats()
    assert shrunk.budget_bytes == budget
    assert shrunk.cache_bytes < full.cache_bytes // 8
    assert shrunk.resident_bytes <= shrunk.cache_bytes
    assert before - machine.rss() > 0.9 * (full.resident_bytes - shrunk.resident_bytes)
    np.testing.assert_array_equal(decode_logits(llm, tokens(10)), expected["logits"])
    assert llm.stats().resident_bytes <= llm.stats().cache_bytes < full.cache_bytes // 8
    llm.set_memory(None)
    assert llm.stats().cache_bytes == full.cache_bytes
    assert llm.stats().budget_changes == 2
    np.testing.assert_array_equal(decode_logits(llm, tokens(10)), expected["logits"])


def test_the_most_valuable_stay(llm: Llama) -> None:
    for _ in range(3):
        decode_logits(llm, tokens(60))
    decode_logits(llm, [3] * 200)
    llm.set_memory(smallest(llm) + 20 * MIB)
    before = llm.stats()
    decode_logits(llm, [3] * 5)
    assert llm.stats().since(before).hit_rate > 0.9


def test_between_the_tokens_of_a_stream(llm: Llama, expected: dict[str, Any]) -> None:
    least = smallest(llm)
    draw = random.Random(1)
    found, sizes = [], []
    for token in llm.generate(tokens(60), temp=0.0):
        found.append(token)
        if len(found) == 60:
            break
        llm.set_memory(draw.choice([least + 2 * MIB, least + draw.randrange(80) * MIB, None, "90%", "auto"]))
        sizes.append(llm.stats().cache_bytes)
    assert found == expected["tokens"]
    assert len(set(sizes)) > 5
    assert max(sizes) > 2 * min(sizes)


def test_from_another_thread_while_one_generates(llm: Llama, expected: dict[str, Any]) -> None:
    least = smallest(llm)
    sizes: set[int] = set()
    done = threading.Event()

    def change() -> None:
        draw = random.Random(2)
        while not done.is_set():
            llm.set_memory(least + (2 + draw.randrange(80)) * MIB)
            sizes.add(llm.stats().cache_bytes)
            done.wait(0.02)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        assert greedy(llm, tokens(60), 60) == expected["tokens"]
    finally:
        done.set()
        thread.join()
    assert len(sizes) > 5


def test_of_a_pack_while_it_streams_text() -> None:
    options: dict[str, Any] = {"max_tokens": 40, "temperature": 0.0}
    with contextlib.closing(Llama(default_model_path(), memory=None)) as pack:
        text = pack("Once upon a time", **options)["choices"][0]["text"]
        least = smallest(pack)
        pack.reset()
        streamed = ""
        for i, chunk in enumerate(pack("Once upon a time", stream=True, **options)):
            pack.set_memory(least if i % 3 else None)
            streamed += chunk["choices"][0]["text"]
        assert streamed == text
        assert pack.stats().misses > 0


def test_what_a_refusal_names_works_and_nothing_has_changed(even: Path) -> None:
    with contextlib.closing(open_tight(even, 0.5, **OPTIONS)) as llm:
        decode_logits(llm, tokens(10))
        before = llm.stats()
        room = llm._residence.loans.room
        wrong: Any
        for wrong in (0, -1, "lots", "0%", 1.5, True, "1MiB"):
            with pytest.raises(BudgetError):
                llm.set_memory(wrong)
        least = smallest(llm)
        with pytest.raises(BudgetError, match=r"(?s)KV cache.*experts, at the least.*n_ctx=512"):
            llm.set_memory(least - 4 * MIB)
        after = llm.stats()
        assert (after.budget_bytes, after.cache_bytes) == (before.budget_bytes, before.cache_bytes)
        assert after.resident_bytes == before.resident_bytes
        assert after.budget_changes == 0
        assert llm._residence.loans.room is room
        llm.set_memory(least)
        assert llm.stats().cache_bytes >= llm._residence.share.minimum_cache


def test_the_same_budget_again_changes_nothing(even: Path, expected: dict[str, Any]) -> None:
    with contextlib.closing(open_tight(even, 0.5, **OPTIONS)) as llm:
        before = llm.stats()
        decode_logits(llm, tokens(10))
        llm.eval(tokens(200))
        llm.eval([1])
        llm.set_memory(before.budget_bytes)
        assert abs(llm.stats().cache_bytes - before.cache_bytes) <= 2 * MIB
        assert llm.stats().budget_changes == 0


def test_loans_are_kept(llm: Llama, expected: dict[str, Any]) -> None:
    """What is lent while there is no limit comes out of the experts' memory as soon as there is one."""
    llm.eval(tokens(200))
    state = llm.save_state()
    size = state.llama_state_size
    without = smallest(llm)
    loans = llm._residence.loans
    loans.lend("a test", 30 * MIB)
    assert smallest(llm) - without == pytest.approx(30 * MIB, abs=2 * MIB)
    with pytest.raises(BudgetError, match=r"a test +30\.0 MiB"):
        llm.set_memory(without)
    budget = smallest(llm) + 20 * MIB
    llm.set_memory(budget)
    with pytest.raises(BudgetError, match="more of it"):
        loans.lend("more of it", 60 * MIB)
    np.testing.assert_array_equal(decode_logits(llm, tokens(10)), expected["logits"])
    lent = llm.stats().cache_bytes
    loans.give_back("a test")
    llm.load_state(state)
    assert llm.n_tokens == 200
    assert state.llama_state_size == size
    llm.eval([1])
    assert llm.stats().cache_bytes >= lent + 20 * MIB


def test_what_the_program_takes_meanwhile_counts(llm: Llama) -> None:
    decode_logits(llm, tokens(10))
    budget = smallest(llm) + 60 * MIB
    llm.set_memory(budget)
    before = llm.stats().cache_bytes
    block = bytearray(b"x") * (200 * MIB)
    llm.set_memory(budget + 120 * MIB)
    less = llm.stats().cache_bytes
    del block
    llm.set_memory(budget)
    assert less <= before - 5 * MIB
    assert abs(llm.stats().cache_bytes - before) <= 2 * MIB


def test_other_models_of_the_process_count(llm: Llama, even: Path) -> None:
    """As long as they are open."""
    alone = smallest(llm)
    llm.set_memory(alone + 60 * MIB)
    cache = llm.stats().cache_bytes
    with contextlib.closing(Llama(even, memory=None, **OPTIONS)) as second:
        decode_logits(second, tokens(10))
        assert smallest(llm) > alone + second.stats().cache_bytes - 10 * MIB
        with pytest.raises(BudgetError):
            llm.set_memory(alone + 61 * MIB)
    llm.set_memory(alone + 60 * MIB)
    assert abs(llm.stats().cache_bytes - cache) <= 4 * MIB


def test_the_smallest_budget_holds_after_shrinking(even: Path) -> None:
    code = """
import re, sys
from pathlib import Path
from edgemoe import BudgetError, Llama, machine
model = Llama(sys.argv[1], memory=None, n_ctx=512, n_batch=64, n_threads=1)
ids = [(i * 7919) % 300 for i in range(300)]
model.eval(ids)
model.eval([1])
before = machine.rss()
try:
    model.set_memory(1)
except BudgetError as error:
    budget = int(re.findall(r"(\\d+) MiB now", str(error))[0]) << 20
model.set_memory(budget)
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
for _ in range(2):
    model.reset()
    model.eval(ids)
    for token in ids[:10]:
        model.eval([token])
print(before, budget, machine.peak_rss())
"""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of a process's memory can be reset on Linux only")
    before, budget, peak = map(int, run(code, even))
    assert peak <= budget < before - 30 * MIB


def test_a_system_that_gives_no_memory(even: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from edgemoe import BudgetError, Llama, machine
model = Llama(sys.argv[1], memory=machine.rss() + (400 << 20), n_ctx=512, n_batch=64, n_threads=1)
model.set_memory(machine.rss() + (60 << 20))
before = model.stats()
used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (used + (8 << 20), resource.RLIM_INFINITY))
try:
    model.set_memory(None)
except BudgetError as error:
    print("refuses" in str(error))
resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
after = model.stats()
print(after.budget_bytes == before.budget_bytes, after.cache_bytes == before.cache_bytes)
model.eval(list(range(100)))
model.set_memory(None)
print(model.stats().cache_bytes > before.cache_bytes)
"""
    if sys.platform != "linux":
        pytest.skip("the limit of a process's data covers such memory on Linux only")
    assert run(code, even) == ["True"] * 4


def test_it_ends_what_cache_asked_for(even: Path) -> None:
    with contextlib.closing(Llama(even, memory=None, cache="50%", **OPTIONS)) as llm:
        half = llm.stats().cache_bytes
        budget = smallest(llm) + 10 * MIB
        llm.set_memory(budget)
        assert llm.stats().cache_bytes < half
        llm.set_memory(None)
        assert llm.stats().cache_bytes > 1.9 * half
        assert llm.__getstate__()["memory"] is None
        assert llm.__getstate__()["cache"] is None


def test_models_without_experts_and_closed_ones(tmp_path: Path) -> None:
    [path] = write_model(tmp_path / "dense.gguf", "llama")
    llm = Llama(path, n_ctx=64)
    with pytest.raises(BudgetError, match="has no experts"):
        llm.set_memory("1GiB")
    llm.close()
    with pytest.raises(EdgeMoEError, match="closed"):
        llm.set_memory("1GiB")


def test_the_command_of_the_chat(llm: Llama) -> None:
    from rich.console import Console

    console = Console(record=True, width=120)
    chat = Chat(ChatSession(llm), Screen(console), Settings({}, own_defaults=True), "model")
    run_command(chat, "/memory")
    assert "budget none" in console.export_text()
    run_command(chat, f"/memory {smallest(llm)}")
    assert re.search(r"budget \d+ MiB", console.export_text())
    with pytest.raises(BudgetError):
        run_command(chat, "/memory a lot")
    run_command(chat, "/memory none")
    assert llm.stats().budget_bytes is None


# memory="auto"


def test_auto_shrinks_and_grows_with_what_others_leave(even: Path, prove_budget: ModuleType) -> None:
    """In a control group with another process that takes memory, keeps it for a while, and goes."""
    code = """
import json, logging, subprocess, sys, time
import edgemoe.pressure, edgemoe.share
from edgemoe import Llama, machine
edgemoe.pressure.QUIET, edgemoe.share._CHECK_EVERY = 0.5, 0.02
logging.getLogger("edgemoe").setLevel(logging.INFO)
logging.getLogger("edgemoe").addHandler(logging.StreamHandler(sys.stderr))
model = Llama(sys.argv[1], memory="auto", n_ctx=512, n_batch=64, n_threads=1)
ids = [(i * 7919) % 300 for i in range(60)]

def work():
    model.reset()
    for token in ids:
        model.eval([token])
    row = model._ctx.get_logits_ith(-1)
    stats = model.stats()
    return dict(logits=row[: model.n_vocab()],
                cache=stats.cache_bytes, rss=stats.rss_bytes, budget=stats.budget_bytes, changes=stats.budget_changes)

def until(done):
    for _ in range(300):
        result = work()
        if done(result):
            return result
    return result

alone = work()
left = machine.available_memory() - (25 << 20)
takes = f"import time; block = bytearray(b'x') * {left}; print(1, flush=True); time.sleep(999)"
other = subprocess.Popen([sys.executable, "-c", takes], stdout=subprocess.PIPE)
other.stdout.readline()
crowded = until(lambda now: now["cache"] < 0.5 * alone["cache"])
other.kill()
other.wait()
later = until(lambda now: now["cache"] > 0.9 * alone["cache"])
print(json.dumps([alone, crowded, later]))
"""
    with prove_budget.memory_group(700 * MIB) as group:
        done = prove_budget.run_in([group], [sys.executable, "-c", code, str(even)])
    assert done.returncode == 0, done.stderr[-3000:]
    alone, crowded, later = json.loads(done.stdout.splitlines()[-1])
    assert alone["changes"] == 0
    assert crowded["cache"] < 0.5 * alone["cache"], done.stderr[-3000:]
    assert crowded["rss"] < alone["rss"] - 30 * MIB
    assert later["cache"] > 0.9 * alone["cache"], done.stderr[-3000:]
    assert alone["logits"] == crowded["logits"] == later["logits"]
    assert "the budget was" in done.stderr


def test_a_size_ends_following(llm: Llama) -> None:
    llm.set_memory("auto")
    assert llm._residence.share.follows
    assert llm.stats().budget_bytes is not None
    llm.set_memory(smallest(llm) + 10 * MIB)
    assert not llm._residence.share.follows
