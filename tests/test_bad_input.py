"""Damaged files, missing parts and failing disks end in an EdgeMoEError, never in a crash, a hang or garbage."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgemoe import EdgeMoEError, Llama, ModelError, ReadError, _native
from edgemoe.packs.writer import pack
from models import write_model
from models.corrupt import CORRUPTIONS, corrupt, flip_header_bytes
from stock import greedy

SMALL = {"n_embd": 64, "n_expert": 4, "n_layer": 2, "n_ff_exp": 64}

# Loads each file given, and computes a little where it loads; one line for each.
PROBE = """
import sys
from edgemoe import EdgeMoEError, Llama
for path in sys.argv[1:]:
    try:
        model = Llama(path, n_ctx=64, n_threads=1)
        model.eval([1, 2, 3])
        model.close()
        print("loads", path, flush=True)
    except EdgeMoEError as error:
        text = str(error)
        clear = 0 < len(text) < 2000 and text.isprintable()
        print("refused" if clear else "unclear", path, ascii(text), flush=True)
"""

# What stock llama.cpp accepts too: the damage is to something that nobody reads.
HARMLESS = {"key-invalid-utf8", "end-token-absurd"}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("good") / "good.gguf", "qwen3moe", **SMALL)[0]


def probe(paths: list[Path]) -> list[str]:
    """One line for each path, from a process of its own; the test fails where that process does not end well."""
    command = [sys.executable, "-X", "faulthandler", "-c", PROBE, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths), done.stdout
    return lines


def test_corruptions_are_refused(good: Path, tmp_path: Path) -> None:
    paths = [corrupt(good, kind, tmp_path) for kind in CORRUPTIONS]
    lines = probe(paths)
    accepted = [kind for kind, line in zip(CORRUPTIONS, lines, strict=True) if not line.startswith("refused")]
    assert set(accepted) <= HARMLESS, "\n".join(lines)


@pytest.mark.parametrize("kind", ["model", "pack"])
def test_flipped_header_bytes_never_crash(good: Path, tmp_path: Path, kind: str) -> None:
    count = int(os.environ.get("EDGEMOE_FUZZ_FILES", "150"))
    source = good if kind == "model" else pack(good, tmp_path / "good.mwq.gguf").path
    paths = list(flip_header_bytes(source, tmp_path, count=count, seed=11))
    lines = [line for start in range(0, count, 150) for line in probe(paths[start : start + 150])]
    assert not [line for line in lines if line.startswith("unclear")]
    assert sum(line.startswith("refused") for line in lines) > len(lines) // 2


@pytest.mark.parametrize("kind", ["missing", "directory", "empty", "text"])
def test_not_a_model(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    if kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("hello, this is not a model\n" * 40)
    with pytest.raises(ModelError, match="model.gguf"):
        Llama(path)


def test_missing_shard(tmp_path: Path) -> None:
    paths = write_model(tmp_path / "split.gguf", "qwen3moe", split_into=3, **SMALL)
    paths[1].unlink()
    with pytest.raises(ReadError, match="00002-of-00003.gguf is not beside it: download all"):
        Llama(paths[0])


def test_later_shard_given(tmp_path: Path) -> None:
    paths = write_model(tmp_path / "split.gguf", "qwen3moe", split_into=2, **SMALL)
    with pytest.raises(ModelError, match="first"):
        Llama(paths[1])


def test_unreadable_file(good: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(good.read_bytes())
    path.chmod(0)
    if os.geteuid() == 0:
        script = "import os, sys\nfrom edgemoe import Llama\nos.setuid(65534)\n" + PROBE
        for folder in (tmp_path, *tmp_path.parents):
            if folder.owner() == "root" and "pytest" in folder.name:
                folder.chmod(0o755)
        done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
        if "Traceback" in done.stderr and "edgemoe" not in done.stderr.splitlines()[-1]:
            pytest.fail(f"the probe could not run as another user: {done.stderr[-500:]}")
        assert done.stdout.startswith("refused")
    else:
        with pytest.raises(ReadError, match="secret.gguf"):
            Llama(path)


def evaluate_much(model: Llama) -> None:
    for start in range(0, 200, 50):
        model.reset()
        model.eval(list(range(start, start + 50)))


@pytest.mark.parametrize("fault", ["fails", "shrinks"])
def test_disk_that_fails_while_running(model_factory, fault: str) -> None:
    path = model_factory("qwen3moe", n_expert=32, expert_type="Q8_0")[0]
    with contextlib.closing(Llama(path, n_ctx=256, cache="40%")) as model:
        expected = greedy(model, [1, 2, 3, 4], 8)
        faults = {"fails": {"fail_after_bytes": 200_000}, "shrinks": {"truncate_at": path.stat().st_size // 2}}
        _native.set_read_fault(**faults[fault])
        try:
            with pytest.raises(ReadError, match="qwen3moe"):
                evaluate_much(model)
        finally:
            _native.set_read_fault()
        assert greedy(model, [1, 2, 3, 4], 8) == expected


def test_disk_that_fails_while_loading(good: Path) -> None:
    _native.set_read_fault(fail_after_bytes=30_000)
    try:
        with pytest.raises(EdgeMoEError):
            Llama(good)
    finally:
        _native.set_read_fault()
    Llama(good).close()


def test_failed_loads_leave_nothing_behind(good: Path, tmp_path: Path) -> None:
    bad = corrupt(good, "tensor-missing", tmp_path)
    before = threading.active_count()
    for _ in range(20):
        with pytest.raises(ModelError):
            Llama(bad)
    assert threading.active_count() == before
    assert len(os.listdir("/proc/self/fd")) < 200 if Path("/proc/self/fd").exists() else True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": "lots"}, "'lots'"),
        ({"memory": "-1GiB"}, "-1GiB"),
        ({"memory": 0}, "more than zero"),
        ({"memory": "1MiB"}, "smallest"),
        ({"cache": "1%"}, "working set"),
        ({"cache": 1.5}, "1.5"),
        ({"io_threads": 0}, "io_threads=0"),
        ({"n_ctx": 64, "memory": "20MiB"}, "dense weights"),
    ],
)
def test_bad_settings(model_factory, options: dict, message: str) -> None:
    path = model_factory("qwen3moe", n_expert=32)[0]
    with pytest.raises(EdgeMoEError, match=message):
        Llama(path, **options)


def test_the_budget_that_the_error_names_works(model_factory) -> None:
    path = model_factory("qwen3moe", n_expert=64, n_ff_exp=512)[0]
    code = """
import re, sys
from edgemoe import BudgetError, Llama, machine
from edgemoe.sizes import parse_size
try:
    Llama(sys.argv[1], memory="40MiB", n_ctx=256)
except BudgetError as error:
    named = re.search(r"smallest is ([0-9.]+ \\w+)", str(error))[1]
model = Llama(sys.argv[1], memory=int(parse_size(named) * 1.01), n_ctx=256)
model.eval(list(range(200)))
model.eval([1])
print(machine.peak_rss() <= parse_size(named) * 1.01, named, machine.peak_rss())
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("True"), done.stdout + done.stderr[-2000:]
