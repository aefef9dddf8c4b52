"""The tools: synthetic models, recorded routing and its replay, and the comparison with stock llama.cpp."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgpack
import numpy as np
import pytest

from edgemoe import Llama, ModelError, ReadError
from edgemoe.bench.texts import ENGLISH
from edgemoe.experts.trace import Trace, TraceWriter, read_trace
from edgemoe.packs.summary import summarize
from stock import decode_logits, greedy, stock_llama

TOOLS = Path(__file__).resolve().parents[1] / "tools"
CONTEXT = {"n_ctx": 256, "n_threads": 2, "n_threads_batch": 2}


def tool(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def replay_trace() -> ModuleType:
    sys.path.insert(0, str(TOOLS))
    try:
        return importlib.import_module("replay_trace")
    finally:
        sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    done = tool("synthesize_moe", path, "--preset", "tiny", "--seed", 3, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["file_bytes"] == path.stat().st_size > facts["expert_bytes"] + facts["dense_bytes"]
    assert facts["seed"] == 3
    return path


@pytest.fixture(scope="module")
def recorded(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a prompt of 40 tokens and 30 single tokens."""
    path = tmp_path_factory.mktemp("trace") / "routing.msgpack"
    with contextlib.closing(Llama(tiny, trace=path, **CONTEXT)) as llm:
        tokens = llm.tokenize(ENGLISH.encode(), add_bos=False)[:70]
        llm.eval(tokens[:40])
        for token in tokens[40:]:
            llm.eval([token])
    return path


# Synthetic models


def test_synthetic_models_are_deterministic(tiny: Path, tmp_path: Path) -> None:
    for name, seed in (("again", 3), ("other", 4)):
        assert tool("synthesize_moe", tmp_path / name, "--preset", "tiny", "--seed", seed).returncode == 0
    assert (tmp_path / "again").read_bytes() == tiny.read_bytes()
    assert (tmp_path / "other").read_bytes() != tiny.read_bytes()


def test_synthetic_models_run_alike_in_stock_and_here(tiny: Path) -> None:
    with (
        contextlib.closing(stock_llama(tiny, **CONTEXT)) as stock,
        contextlib.closing(Llama(tiny, **CONTEXT)) as llm,
    ):
        tokens = llm.tokenize(b"The cat sat on the mat", add_bos=False)
        assert llm.detokenize(tokens) == b"The cat sat on the mat"
        np.testing.assert_array_equal(decode_logits(llm, tokens), decode_logits(stock, tokens))
        assert greedy(llm, tokens, 12) == greedy(stock, tokens, 12)


def test_synthetic_shapes_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    changes = ["--layers", 2, "--experts", 8, "--top-k", 3, "--expert-type", "f16", "--vocab-size", 1024]
    assert tool("synthesize_moe", path, "--preset", "tiny", *changes).returncode == 0
    summary = summarize(path)
    assert (summary.layers, summary.experts, summary.experts_used, summary.vocabulary) == (2, 8, 3, 1024)
    assert summary.expert_types == {"f16": 2 * 8 * 3 * 256 * 256 * 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--top-k", "17"], "top-k 17 is more than the 16 experts"),
        (["--hidden", "100"], "multiple of 256"),
        (["--layers", "0"], "layers is 0"),
        (["--vocab-size", "200"], "a vocabulary of 200"),
        (["--kv-heads", "3"], "3 kv heads"),
        (["--vocab", "missing.gguf"], "missing.gguf"),
        (["--expert-type", "q9_z"], "q9_z"),
    ],
)
def test_impossible_shapes_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = tool("synthesize_moe", tmp_path / "model.gguf", "--preset", "tiny", *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.gguf").exists()


def test_measuring_a_model(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(ENGLISH)
    done = tool("synthesize_moe", "--measure", tiny, "--text", tmp_path / "text.txt", "--tokens", 30, "--json")
    assert done.returncode == 0, done.stderr
    rates = json.loads(done.stdout)["hit_rates"]
    assert 0 < rates["0.11"] <= rates["0.22"] <= rates["0.45"] < 1
    assert tool("synthesize_moe", "--measure", tiny).returncode == 1
    assert tool("synthesize_moe").returncode == 1


# Traces


def test_a_recorded_trace(tiny: Path, recorded: Path) -> None:
    trace = read_trace(recorded)
    assert trace.tokens == 70
    summary = summarize(tiny)
    assert [experts for _, experts, _ in trace.groups] == [summary.experts] * summary.layers
    assert sum(experts * size for _, experts, size in trace.groups) == summary.expert_bytes
    assert len(trace.events) == summary.layers * 31
    for group, tokens, experts, rows, hotness in trace.events:
        assert len(set(experts)) == len(experts) == len(rows) == len(hotness)
        assert all(0 < h <= row for h, row in zip(hotness, rows, strict=True))
        last_layer_of_prompt = group == summary.layers - 1 and tokens < 40
        assert sum(rows) == tokens * summary.experts_used or last_layer_of_prompt


def test_traces_survive_a_round_trip(tmp_path: Path) -> None:
    groups = [("blk.0.exps", 4, 1000), ("blk.1.exps", 4, 2000)]
    events = [(0, 2, [1, 3], [2, 2], [0.5, 0.25]), (1, 2, [0], [4], [2.0]), (0, 1, [2], [1], [1.0])]
    writer = TraceWriter(tmp_path / "trace")
    writer.begin("a model", groups)
    writer.write(events[:2])
    writer.write([])
    writer.write(events[2:])
    writer.close()
    assert read_trace(tmp_path / "trace") == Trace("a model", groups, events)
    cut = tmp_path / "cut"
    cut.write_bytes((tmp_path / "trace").read_bytes()[:-2])
    assert read_trace(cut).events == events[:2]


HEADER = {"format": "edgemoe-trace", "version": 2, "model": "m", "groups": [["blk.0.exps", 4, 1000]]}
DAMAGED: dict[str, list[object]] = {
    "empty": [],
    "no header": [[0, 1, [1], [1], [1.0]]],
    "another format": [HEADER | {"format": "other"}],
    "another version": [HEADER | {"version": 1}],
    "no groups": [{k: v for k, v in HEADER.items() if k != "groups"}],
    "no model": [{k: v for k, v in HEADER.items() if k != "model"}],
    "broken groups": [HEADER | {"groups": [["blk.0.exps", 4]]}],
    "an event that is a number": [HEADER, 5],
    "an event without rows": [HEADER, [0, 1, [1], [1.0]]],
    "an event of words": [HEADER, ["a", "b", ["c"], ["d"], ["e"]]],
    "a group that is not there": [HEADER, [7, 1, [1], [1], [1.0]]],
    "an expert that is not there": [HEADER, [0, 1, [4_000_000], [1], [1.0]]],
    "a hotness that is none": [HEADER, [0, 1, [1], [1], [math.nan]]],
    "an event without hotness": [HEADER, [0, 1, [1], [1]]],
    "a negative expert": [HEADER, [0, 1, [-1], [1], [1.0]]],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_traces(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "damaged.msgpack"
    path.write_bytes(b"".join(msgpack.packb(item) for item in DAMAGED[kind]))
    with pytest.raises(ModelError, match="damaged.msgpack"):
        read_trace(path)


def test_the_replay_refuses_a_damaged_trace(tmp_path: Path) -> None:
    path = tmp_path / "damaged.msgpack"
    path.write_bytes(b"".join(msgpack.packb(item) for item in DAMAGED["an expert that is not there"]))
    done = tool("replay_trace", path)
    assert done.returncode == 2, done.stderr[-1000:]
    assert "damaged.msgpack" in done.stderr
    assert "Traceback" not in done.stderr


def test_traces_that_cannot_be_opened(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="missing"):
        read_trace(tmp_path / "missing")
    with pytest.raises(ReadError, match="cannot write the trace"):
        Llama(tiny, trace=tmp_path / "no" / "folder", **CONTEXT)
    (tmp_path / "bytes").write_bytes(bytes(random.Random(0).randrange(256) for _ in range(1000)))
    with pytest.raises(ModelError, match="no trace"):
        read_trace(tmp_path / "bytes")


# Replay


def test_replay_of_a_cache_that_holds_everything(recorded: Path, replay_trace: ModuleType) -> None:
    trace = read_trace(recorded)
    total = sum(count * size for _, count, size in trace.groups)
    used = [(group, expert) for group, _, experts, *_ in trace.events for expert in experts]
    for policy in replay_trace.POLICIES:
        result = replay_trace.replay(trace, policy, total, 256.0, warmup=0.0)
        assert (result.hits, result.misses) == (len(used) - len(set(used)), len(set(used))), policy
        assert result.share == 1.0


@pytest.mark.parametrize("share", [0.05, 0.11, 0.3, 0.6])
def test_no_policy_beats_the_optimum(recorded: Path, replay_trace: ModuleType, share: float) -> None:
    trace = read_trace(recorded)
    total = sum(count * size for _, count, size in trace.groups)
    results = {p: replay_trace.replay(trace, p, int(share * total), 256.0, 0.0) for p in replay_trace.POLICIES}
    uses = {result.hits + result.misses for result in results.values()}
    assert len(uses) == 1
    for policy in ("decayed", "lru", "lfu"):
        assert results["optimal"].hits >= results[policy].hits, policy


def test_replay_with_nothing_and_with_more(recorded: Path, replay_trace: ModuleType) -> None:
    trace = read_trace(recorded)
    total = sum(count * size for _, count, size in trace.groups)
    for policy in replay_trace.POLICIES:
        assert replay_trace.replay(trace, policy, 1, 256.0, 0.0).hits == 0
        hits = [replay_trace.replay(trace, policy, int(total * s), 256.0, 0.5).hits for s in (0.1, 0.4, 1.0)]
        assert hits == sorted(hits) or policy in ("decayed", "lfu")


def test_replay_on_the_command_line(recorded: Path) -> None:
    done = tool("replay_trace", recorded, "--cache", "25%,1MB", "--policy", "lru,optimal")
    assert done.returncode == 0, done.stderr
    assert "70 tokens" in done.stdout
    assert sum("lru" in line for line in done.stdout.splitlines()) == 2
    results = json.loads(tool("replay_trace", recorded, "--cache", "25%", "--json").stdout)
    assert [result["policy"] for result in results] == ["decayed", "lru", "lfu", "optimal"]
    assert all(0 <= result["hit_rate"] <= 1 and result["share"] == 0.25 for result in results)


@pytest.mark.parametrize("arguments", [["--policy", "magic"], ["--cache", "lots"], ["--warmup", "much"]])
def test_bad_settings_of_the_replay(recorded: Path, arguments: list[str]) -> None:
    done = tool("replay_trace", recorded, *arguments)
    assert done.returncode == 2
    assert arguments[1] in done.stderr
    assert "Traceback" not in done.stderr


# Comparison with stock llama.cpp


def test_comparison_without_a_limit(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(ENGLISH * 2)
    arguments = ["--text", tmp_path / "text.txt", "--memory", "none", "--repeat", 1, "--json"]
    done = tool("compare_stock", tiny, *arguments, "--prompt-tokens", 32, "--tokens", 8)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["limit"] == 0
    assert set(result["median"]) == {"stock", "edgemoe"}
    for figures in result["median"].values():
        assert figures["prompt"] > 0
        assert figures["decode"] > 0
    assert result["median"]["edgemoe"]["hit_rate"] == 1.0


# Load on a server


def test_a_server_holds_under_load() -> None:
    done = tool("serve_load", "--minutes", 0.05, "--clients", 6, "--memory", "4GiB", "--queue", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["left over"] == 0
    assert found["stream"] > 0
