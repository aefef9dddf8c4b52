"""Who runs models: announcements of real processes, what is left of dead ones, and budgets that exceed the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edgemoe import Llama, machine
from edgemoe.running import announce, crowding, running
from edgemoe.sizes import format_size

ANNOUNCE = """
import json, sys
from edgemoe.running import announce
with announce(**json.loads(sys.argv[1])):
    print("announced", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "edgemoe"


@contextmanager
def other_process(**facts: object) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", ANNOUNCE, json.dumps(facts)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"announced\n"
        try:
            yield child
        finally:
            child.kill()


def test_an_open_model_is_announced(folder: Path, model_factory) -> None:
    [path] = model_factory("qwen3moe", expert_type="Q8_0")
    before = time.time()
    budget = machine.rss() + (500 << 20)
    with closing(Llama(path, memory=budget, n_ctx=128)) as llm:
        [one] = running()
        assert (one.pid, one.model, one.paths, one.bits) == (os.getpid(), path.name, (path,), 0.0)
        assert (one.budget, one.follows) == (budget, False)
        assert before - 1 <= one.since <= time.time()
        assert one.memory > 10 << 20
        llm.set_memory(budget - (50 << 20))
        assert running()[0].budget == budget - (50 << 20)
        llm("fish", max_tokens=4)
        assert running()[0].bits == pytest.approx(8.5, abs=0.01)
        [file] = folder.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
    assert running() == []
    assert list(folder.iterdir()) == []


def test_a_budget_of_auto_and_a_dense_model(folder: Path, model_factory) -> None:
    [moe], [dense] = model_factory("qwen3moe", expert_type="Q8_0"), model_factory("llama")
    with closing(Llama(moe, n_ctx=128)), closing(Llama(dense, n_ctx=128)):
        first, second = running()
        assert first.follows
        assert first.budget
        assert (second.model, second.budget, second.follows) == (dense.name, None, False)


def test_several_processes_oldest_first(folder: Path) -> None:
    with other_process(model="a", budget=1) as a, other_process(model="b") as b, announce(model="c") as mine:
        assert [(one.pid, one.model) for one in running()] == [(a.pid, "a"), (b.pid, "b"), (os.getpid(), "c")]
        mine.update(model="d")
        assert running()[-1].model == "d"


def test_what_a_killed_process_left_is_removed(folder: Path) -> None:
    with other_process(model="a") as child:
        [file] = folder.iterdir()
        child.kill()
        child.wait()
        assert file.exists()
        assert running() == []
        assert not file.exists()


def test_a_number_that_another_process_has_now_is_not_believed(folder: Path) -> None:
    with other_process(model="a") as child:
        [file] = folder.iterdir()
        content = json.loads(file.read_bytes())
        file.write_text(json.dumps(content | {"started": content["started"] - 60}))
        assert running() == []
        assert child.poll() is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"pid": true}', '{"pid": 1, "started": 0, "models": [1]}', "[" * 99999]
)
def test_damaged_files_are_ignored(folder: Path, content: str) -> None:
    with announce(model="a"):
        (folder / "1.json").write_text(content)
        (folder / "notes.json").write_text(content)
        assert [one.model for one in running()] == ["a"]
        assert (folder / "notes.json").exists()  # nobody knows whose it is


def test_a_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_factory
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))
    [path] = model_factory("qwen3moe", expert_type="Q8_0")
    with closing(Llama(path, n_ctx=128)) as llm:
        assert llm("fish", max_tokens=2)["choices"]
        assert running() == []


def test_without_a_runtime_folder_the_state_folder_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with announce(model="a"):
        assert list((tmp_path / "edgemoe/run").iterdir()) == [tmp_path / f"edgemoe/run/{os.getpid()}.json"]


def test_a_child_does_not_take_the_parents_line_away(folder: Path) -> None:
    with announce(model="a") as mine:
        pid = os.fork()
        if pid == 0:
            mine.end()
            os._exit(0)
        os.waitpid(pid, 0)
        assert [one.model for one in running()] == ["a"]


# Budgets


def test_budgets_that_exceed_the_machine_name_the_other_process(folder: Path, model_factory) -> None:
    total = machine.total_memory()
    [path] = model_factory("qwen3moe", expert_type="Q8_0")
    with other_process(model="big.gguf", budget=total - (200 << 20)) as child:
        budget = machine.rss() + (300 << 20)
        with closing(Llama(path, memory=budget, n_ctx=128)) as llm:
            [note] = llm.notes
            assert f"process {child.pid} (big.gguf)" in note
            assert format_size(budget) in note
        assert crowding(100 << 20, "small") is None
        assert crowding(None, "no limit") is None


def test_a_budget_that_gives_way_counts_with_what_is_held(folder: Path) -> None:
    total = machine.total_memory()
    with other_process(model="big.gguf", budget=total, follows=True):
        assert crowding(total // 2, "mine") is None
        assert crowding(total, "mine") is not None


def test_models_of_one_process_share_a_budget(folder: Path) -> None:
    total = machine.total_memory()
    with announce(model="a", budget=total), announce(model="b", budget=total):
        assert crowding(total, "c") is None  # it is the same process's
    with other_process(model="a", budget=total // 2), crowdless(total // 2):
        pass


@contextmanager
def crowdless(budget: int) -> Iterator[None]:
    assert crowding(budget, "mine") is None
    yield
