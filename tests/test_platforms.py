"""What other systems do differently, tried here behind environment variables: the model's words stay the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgemoe import _native, machine

ROOT = Path(__file__).parents[1]
PACK = ROOT / "models/tinystories-moe.mwq.gguf"
PROGRAM = f"""
import edgemoe

model = edgemoe.Llama({str(PACK)!r}, n_ctx=128, verbose=False)
print(model("Once upon a time", max_tokens=12, temperature=0)["choices"][0]["text"])
model.close()
"""


def run(**variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def usual() -> str:
    done = run()
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EDGEMOE_PAGE_SIZE", "16384"),
        ("EDGEMOE_PAGE_SIZE", "65536"),
        ("EDGEMOE_IO", "buffered"),
        ("EDGEMOE_STREAM", "file"),
    ],
)
def test_other_ways_give_the_same_words(usual: str, name: str, value: str) -> None:
    done = run(**{name: value})
    assert done.returncode == 0, done.stderr
    assert done.stdout == usual


@pytest.mark.parametrize("name", ["EDGEMOE_PAGE_SIZE", "EDGEMOE_IO", "EDGEMOE_STREAM"])
def test_a_wrong_value_is_named(name: str) -> None:
    done = run(**{name: "100"})
    assert done.returncode != 0
    assert f"{name} is '100', and may be" in done.stderr


def test_a_temporary_file_without_a_folder_says_what_to_set(tmp_path: Path) -> None:
    done = run(EDGEMOE_STREAM="file", TMPDIR=str(tmp_path / "missing"))
    assert done.returncode != 0
    assert "set TMPDIR" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="compares with /proc")
def test_memory_figures_agree_with_python() -> None:
    assert _native.held_memory() == pytest.approx(machine.held_memory(), rel=0.1)
    assert _native.resident_memory() == pytest.approx(machine.rss(), rel=0.1)
