"""A small machine, by the kernel's own limits: memory with the page cache, one core, the reads of an SD card."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from edgemoe.default_model import default_model_path
from models import write_model

MIB = 1 << 20
CARD = (90_000_000, 250)


@pytest.fixture
def groups(prove_budget: ModuleType) -> ModuleType:
    """tools/control_groups.py, where memory, cores and disks can be limited."""
    module = importlib.import_module("control_groups")
    if lacking := module.missing(module.MEMORY, module.DISK, module.CORES):
        pytest.skip(lacking)
    return module


def test_chat_in_300_mib_on_one_core_and_a_card(groups: ModuleType) -> None:
    model = str(default_model_path())
    command = [sys.executable, "-m", "edgemoe", "chat", model, "-p", "Hello", "--max-tokens", "8", "--json"]
    groups.forget_pages([model])
    try:
        with (
            groups.memory_group(300 * MIB) as memory,
            groups.cores_group("0") as core,
            groups.disk_group(CARD[0], [model], CARD[1]) as disk,
        ):
            done = groups.run_in([memory, core, disk], command)
    except OSError as error:
        pytest.skip(f"the disk cannot be limited: {error}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stats"]["peak_bytes"] <= 300 * MIB


def test_the_tool_measures_both_programs(tmp_path: Path, groups: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(groups.__file__ or "").parent))
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    tool = importlib.import_module("small_machine")
    path, *_ = write_model(tmp_path / "m.gguf", "qwen3moe", expert_type="Q8_0")
    text = tmp_path / "text"
    text.write_text("The ferry left the harbour at noon. " * 20)
    options = ["--memory", "500MiB", "--disk", "none", "--ctx", "512", "--warm", "2", "--tokens", "4", "--stock"]
    done = CliRunner().invoke(tool.main, [str(path), "--text", str(text), *options, "--json"])
    assert done.exit_code == 0, done.output
    runs = json.loads(done.output[done.output.index("{") :])
    assert {label: run["end"] for label, run in runs.items()} == {"edgemoe": "done", "llama.cpp": "done"}
    assert runs["edgemoe"]["group"] <= 500 * MIB
    assert runs["edgemoe"]["decode"] > 0
    done = CliRunner().invoke(tool.main, [str(path), "--text", str(text), *options[2:], "--memory", "40MiB"])
    assert done.exit_code == 0, done.output
    assert "killed for its memory" in done.output or "smallest budget" in done.output
