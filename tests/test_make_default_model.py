"""The pack that comes with edgemoe is made reproducibly: the same input gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgemoe.bench.texts import ENGLISH
from edgemoe.default_model import default_model_path
from edgemoe.packs.reader import Pack
from models import write_model

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "make_default_model.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("default")
    write_model(folder / "model.gguf", "qwen3moe", expert_type="F16", n_layer=2, n_expert=8)
    (folder / "text.txt").write_text(ENGLISH * 4)
    return folder


def make(folder: Path, name: str, *arguments: str, cores: set[int] | None = None) -> Path:
    command = [sys.executable, str(TOOL), "model.gguf", "-o", name, "--calibrate", "text.txt", *arguments]
    limit = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False, preexec_fn=limit
    )
    assert done.returncode == 0, done.stderr
    return folder / name


def test_the_same_bytes_from_any_number_of_threads(folder: Path) -> None:
    pack = make(folder, "one.mwq.gguf")
    again = make(folder, "two.mwq.gguf", "--threads", "1", cores={min(os.sched_getaffinity(0))})
    assert pack.read_bytes() == again.read_bytes()
    with Pack(pack) as opened:
        assert opened.levels == (2, 3, 4)
        assert opened.bias_levels == (2,)


def test_what_is_there_is_replaced(folder: Path) -> None:
    path = folder / "old.mwq.gguf"
    path.write_bytes(b"old")
    with Pack(make(folder, path.name, "--levels", "2,3,4,6")) as opened:
        assert opened.levels == (2, 3, 4, 6)


def test_a_text_that_is_too_short_is_an_error_in_one_line(folder: Path) -> None:
    (folder / "short.txt").write_text("Once upon a time.")
    command = [sys.executable, str(TOOL), "model.gguf", "-o", "short.mwq.gguf", "--calibrate", "short.txt"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: the calibration text has")
    assert not (folder / "short.mwq.gguf").exists()


def test_the_card_says_how_large_the_model_is() -> None:
    card = (ROOT / "models" / "README.md").read_text()
    assert f"{default_model_path().stat().st_size / 1e6:.2f} MB" in card
    assert default_model_path().name in card
