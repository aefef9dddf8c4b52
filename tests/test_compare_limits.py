"""The comparison of programs under limits: equal tokens and caches, what peers print, and limits of a disk."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from edgemoe import Llama
from edgemoe.bench.texts import ENGLISH
from edgemoe.packs.summary import summarize
from models import write_model

TOOLS = Path(__file__).resolve().parents[1] / "tools"
SHORT = ["--warm", "6", "--tokens", "10", "--repeat", "2"]

# A program that reads the tokens it is given and says what it was told.
PEER = """
import sys
ids, cache, warm, tokens = sys.argv[1:]
print("speed 1.0 sum 0")
print("speed", tokens, "sum", sum(map(int, open(ids).read().split())), "cache", cache, "warm", warm)
"""
PATTERN = r"speed (?P<decode>\S+) sum (?P<sum>\d+)(?: cache (?P<cache>\d+) warm (?P<warm>\d+))?"


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Any:
    sys.path.insert(0, str(TOOLS))
    yield
    sys.path.remove(str(TOOLS))


@pytest.fixture(scope="module")
def limited_run(on_the_path: None) -> ModuleType:
    return importlib.import_module("limited_run")


@pytest.fixture(scope="module")
def groups(on_the_path: None) -> ModuleType:
    return importlib.import_module("control_groups")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("limits") / "model.gguf", "qwen3moe", expert_type="Q8_0")[0]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("limits") / "text.txt"
    path.write_text(ENGLISH)
    return path


@pytest.fixture
def peer(tmp_path: Path) -> str:
    (tmp_path / "peer.py").write_text(PEER)
    return f"'{sys.executable}' '{tmp_path / 'peer.py'}'"


def compare(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "compare_limits.py"), *map(str, arguments)]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


# Programs side by side


def test_programs_get_the_same_tokens_and_cache(model: Path, text: Path, peer: str) -> None:
    command = peer + " {ids} {cache} {warm} {tokens}"
    peers = ["--peer", "script", command, "--peer-pattern", PATTERN]
    stock = ["--stock", "--stock-warm", 2, "--stock-tokens", 4]
    done = compare(model, "--text", text, "--cache", "60%,30%", *SHORT, *stock, *peers, "--json")
    assert done.returncode == 0, done.stderr
    settings = [json.loads(line) for line in done.stdout.splitlines()]
    assert [setting["share"] for setting in settings] == ["60%", "30%"]
    with contextlib.closing(Llama(model, n_ctx=64)) as llm:
        ids = llm.tokenize(ENGLISH.encode(), add_bos=False)[:16]
    for setting, share in zip(settings, (0.6, 0.3), strict=True):
        assert setting["cache"] == int(share * summarize(model).expert_bytes)
        assert {name: len(runs) for name, runs in setting["runs"].items()} == {
            "edgemoe": 2,
            "script": 2,
            "llama.cpp": 2,
        }
        assert setting["median"]["script"] == {"decode": 10, "sum": sum(ids), "cache": setting["cache"], "warm": 6}
        for figures in setting["runs"]["edgemoe"]:
            assert 0 <= figures["hit_rate"] < 1
            assert figures["read"] > 0
            assert figures["cache"] <= setting["cache"]
            seconds = 1 / figures["decode"]
            assert figures["io_wait"] + figures["compute"] == pytest.approx(seconds)
            assert figures["read_time"] == pytest.approx(figures["read"] / figures["disk_speed"])
            assert figures["bubble"] == pytest.approx(seconds / max(figures["read_time"], figures["compute"]))
        assert setting["median"]["llama.cpp"]["decode"] > 0
    assert settings[0]["median"]["edgemoe"]["hit_rate"] > settings[1]["median"]["edgemoe"]["hit_rate"]


def test_table_with_a_pack_and_a_program_that_fails(model: Path, text: Path, tmp_path: Path) -> None:
    pack = tmp_path / "model.mwq.gguf"
    subprocess.run([sys.executable, "-m", "edgemoe", "pack", str(model), "-o", str(pack), "--requantize"], check=True)
    qualities = ["--pack", pack, "--quality", "exact", "--quality", "fixed:2"]
    peers = ["--peer", "broken", f"'{sys.executable}' -c 'exit(\"no such luck\")'", "--peer", "silent", "echo"]
    done = compare(model, "--text", text, "--cache", "60%", *SHORT, *qualities, *peers)
    assert done.returncode == 0, done.stderr
    rows = {line[:12].strip(): line[12:].split() for line in done.stdout.splitlines()[2:]}
    assert list(rows) == ["program", "edgemoe", "pack exact", "pack fixed:2", "broken", "silent"]
    assert rows["edgemoe"][3] == "1.00x"
    assert rows["broken"] == ["failed", *["-"] * 10]
    assert "broken: ended with 1: no such luck" in done.stderr
    assert "silent: --peer-pattern '([0-9.]+) tok/s' is nowhere in its output" in done.stderr


def test_sequences_together_and_experts_kept_by_last_use(model: Path, text: Path) -> None:
    together = ["--warm", 8, "--tokens", 24, "--repeat", 1, "--parallel", "1,4"]
    done = compare(model, "--text", text, "--cache", "60%", *together, "--lru", model, "--json")
    assert done.returncode == 0, done.stderr
    one, four = (json.loads(line) for line in done.stdout.splitlines())
    assert [one["sequences"], four["sequences"]] == [1, 4]
    for setting in (one, four):
        popular, recent = setting["median"].values()
        assert list(setting["median"]) == ["edgemoe", f"LRU {model.name}"]
        assert popular["read"] != recent["read"]
        assert 0 < popular["hit_rate"] < 1


def test_a_program_that_does_not_end(model: Path, text: Path) -> None:
    arguments = [model, "--text", text, "--cache", "60%", "--warm", 1, "--tokens", 1, "--repeat", 1]
    done = compare(*arguments, "--peer", "slow", "sleep 1000", "--timeout", 20)
    assert done.returncode == 0, done.stderr
    assert "slow: not finished after 20 s" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cache", "much"], "'much' is not a size"),
        (["--disk", "fast"], "'fast' is not a size"),
        (["--memory", "lots"], "'lots' is not a size"),
        (["--warm", "100000"], "tokens: --warm and --tokens need 100001"),
        (["--peer-pattern", "tok/s"], "has no group for the speed"),
        (["--peer-pattern", "("], "is no regular expression"),
        (["--peer", "a", "true {speed}", "--repeat", "1"], "it may name model"),
        (["--peer", "a", "true", "--peer", "a", "false"], "'a' names two programs"),
        (["--parallel", "1,2"], "--parallel 2: --warm and --tokens have to be multiples of it"),
        (["--parallel", "few"], "'few' is no list of numbers"),
        (["--parallel", "1", "--stock"], "--parallel is for edgemoe alone"),
    ],
)
def test_bad_settings(model: Path, text: Path, arguments: list[str], message: str) -> None:
    done = compare(model, "--text", text, "--tokens", 1, "--warm", 1, *arguments)
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert done.returncode == 2


# What peers are told and print


def test_the_last_match_counts(limited_run: ModuleType) -> None:
    plain = re.compile(r"([0-9.]+) tok/s")
    assert limited_run.peer_figures("load 9 tok/s\n12.5 tok/s, done", plain) == {"decode": 12.5}
    named = re.compile(r"(?P<hit_rate>[0-9.]+) hits (?P<decode>[0-9.]+)|(?P<decode2>x)")
    assert limited_run.peer_figures("0.75 hits 3.5", named) == {"hit_rate": 0.75, "decode": 3.5}


@pytest.mark.parametrize("pattern", [r"(\d+) apples", r"tok/s (\w+)", r"(x)?"])
def test_output_without_a_speed(limited_run: ModuleType, pattern: str) -> None:
    with pytest.raises(limited_run.Failed, match="peer-pattern"):
        limited_run.peer_figures("tok/s unknown", re.compile(pattern))


def test_words_of_a_peers_command(limited_run: ModuleType, tmp_path: Path) -> None:
    setting = limited_run.Setting("50%", 3 << 20, 0, 0, warm=5, tokens=7)
    text = limited_run.Text(tmp_path / "a text", [1], tmp_path / "ids")
    template = "run '{model}' --mib={cache_mib} {cache} {total} {text} {{}}"
    words = limited_run.peer_command(template, "a model.gguf", setting, text)
    assert words == ["run", "a model.gguf", "--mib=3", str(3 << 20), "12", str(tmp_path / "a text"), "{}"]
    for wrong in ("run {nothing}", "run {", "run '"):
        with pytest.raises(click.UsageError, match="it may name model"):
            limited_run.peer_command(wrong, "model", setting, text)


# Limits


def test_direct_reads_are_limited(groups: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(6 << 20))
    os.sync()
    if lacking := groups.missing(groups.DISK):
        pytest.skip(lacking)
    with groups.disk_group(4 << 20, [file]) as group:
        began = time.perf_counter()
        done = groups.run_in([group], ["dd", f"if={file}", "of=/dev/null", "bs=256k", "iflag=direct"], timeout=60)
        seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert seconds > 1.0, "6 MiB at 4 MiB/s"
    assert not group.exists()


def test_files_without_a_disk_cannot_be_limited(groups: ModuleType) -> None:
    with pytest.raises(OSError, match="on no block device"):
        groups.disk_of("/proc/self/status")


def test_a_limit_needs_root(groups: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "root and control groups" in groups.missing(tmp_path / "no such controller")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert str(groups.DISK) in groups.missing(groups.MEMORY, groups.DISK)
