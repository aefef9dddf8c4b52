"""The verbs of packs: what they print, and one line and exit code 2 for whatever is wrong with what they are given."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgemoe.cli import main
from models import write_model
from packing import SMALL, packed, tensors


def call(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def test_the_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_model(tmp_path / "m-00001-of-00001.gguf", "qwen3moe", expert_type="Q6_K", **SMALL)[0]
    assert call("pack", source, "--json", "--report", tmp_path / "report.md") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["path"] == str(tmp_path / "m.mwq.gguf")
    assert [at["level"] for at in shown["report"]["levels"]] == [2, 3, 4, 6]
    assert "| blk.1.exps | slices of Q6_K |" in (tmp_path / "report.md").read_text()
    assert call("verify", shown["path"], "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "bytes": shown["bytes"], "extents": 32, "damages": []}
    assert call("show", shown["path"], "--json") == 0
    pack_shown = json.loads(capsys.readouterr().out)
    assert pack_shown["source"] == source.name
    assert pack_shown["groups"][0]["levels"][0]["bits_per_weight"] > 2.5
    assert call("show", shown["path"]) == 0
    assert "level 6" in capsys.readouterr().out
    assert call("unpack", shown["path"], "-o", tmp_path / "whole.gguf") == 0
    assert "Q6_K in 6 tensors" in capsys.readouterr().out
    assert tensors(tmp_path / "whole.gguf") == tensors(source)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("pack", "{source}", "--levels", "2,x"), "'2,x'"),
        (("pack", "{source}", "--levels", "2,4"), "build on each other"),
        (("pack", "{source}", "--calibrate", "{source}"), "not a text in UTF-8"),
        (("pack", "{source}", "--calibrate", "missing.txt"), "missing.txt"),
        (("pack", "{source}", "--gptq"), "needs --calibrate"),
        (("pack", "{source}", "--heads"), "needs --calibrate"),
        (("pack", "{source}", "--heads", "--levels", "2", "--calibrate"), "nothing to choose"),
        (("pack", "{source}", "--gptq", "--calibrate", "--overwrite"), "nothing to do"),
        (("pack", "{source}", "-o", "x.json", "--report", "x.json"), "is the pack itself"),
        (("pack", "{source}", "-o", "missing/x.gguf", "--calibrate"), "there is no folder missing"),
        (("pack", "{source}", "--report", "report.txt"), "report.txt"),
        (("pack", "{source}", "--overwrite", "--report", "missing/r.md"), "no folder missing"),
        (("pack", "{source}", "--dense", ""), "converted to ''"),
        (("pack", "{source}", "-o", ""), "is a folder"),
        (("pack", "{source}", "-o", "{pack}"), "replace it with --overwrite"),
        (("pack", "{source}", "-o", "{folder}", "--overwrite"), "is a folder"),
        (("pack", "{source}", "-o", "{pipe}", "--overwrite"), "no regular file"),
        (("pack", "{source}", "-o", "{pack}", "--calibrate"), "exists"),
        (("pack", "{source}", "-o", "{source}", "--overwrite"), "the source itself"),
        (("pack", "missing.gguf"), "missing.gguf"),
        (("pack", "{folder}"), "directory"),
        (("pack", "{dense}"), "no experts"),
        (("pack", "{dense}", "--calibrate"), "no experts"),
        (("pack", "{source}", "-o", "missing/pack.gguf"), "missing"),
        (("pack", "{source}", "-o", "x" * 300), "too long"),
        (("pack", "{pack}"), "a pack already"),
        (("verify", "{source}"), "no pack"),
        (("verify", "{pipe}"), "not a regular file"),
        (("verify", "{folder}"), "directory"),
        (("verify", "missing.mwq.gguf"), "missing.mwq.gguf"),
        (("show", "{pipe}"), "not a regular file"),
        (("unpack", "{pack}", "--level", "5", "-o", "x.gguf"), "no level 5"),
        (("unpack", "{pack}", "--type", "Q1", "-o", "x.gguf"), "Q1"),
        (("unpack", "{pack}", "-o", "{source}"), "exists"),
        (("unpack", "{pack}", "-o", "{pack}", "--overwrite"), "the pack itself"),
        (("unpack", "{pack}", "-o", "{folder}", "--overwrite"), "is a folder"),
        (("unpack", "{pack}", "-o", "{pipe}", "--overwrite"), "no regular file"),
        (("unpack", "{source}", "-o", "x.gguf"), "no pack"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    tmp_path: Path, arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = packed(tmp_path, expert_type="Q4_K")
    [dense] = write_model(tmp_path / "dense.gguf", "llama", n_layer=1)
    names = {"source": tmp_path / "source.gguf", "pack": made.path, "dense": dense, "folder": tmp_path}
    names["pipe"] = tmp_path / "pipe"
    os.mkfifo(names["pipe"])
    assert call(*(argument.format(**names) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert named in shown.err
    assert shown.err.count("\n") == 1


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Root may read and write everything: meanwhile the process is not root."""
    user = os.geteuid()
    os.seteuid(65534 if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield folder
        folder.chmod(0o755)


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "{closed}"),
        ("show", "{closed}"),
        ("unpack", "{closed}", "-o", "{folder}/new.gguf"),
        ("pack", "{closed}"),
        ("pack", "{source}", "-o", "{folder}/new.gguf"),
        ("pack", "{source}", "-o", "{folder}/closed.gguf", "--overwrite"),
        ("pack", "{source}", "-o", "{folder}/new.gguf", "--report", "{folder}/report.md"),
        ("pack", "{source}", "-o", "{folder}/new.gguf", "--calibrate", "{closed}"),
        ("unpack", "{pack}", "-o", "{folder}/new.gguf"),
    ],
)
def test_missing_permissions_are_named(
    open_folder: Path, arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    made = packed(open_folder, expert_type="Q4_K")
    closed = open_folder / "closed.gguf"
    closed.write_bytes(made.path.read_bytes())
    closed.chmod(0)
    open_folder.chmod(0o555)
    names = {"source": open_folder / "source.gguf", "pack": made.path, "closed": closed, "folder": open_folder}
    assert call("show", made.path) == 0  # modules are imported as root
    capsys.readouterr()
    with unprivileged():
        assert call(*(argument.format(**names) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert "ermission" in shown.err
    assert shown.err.count("\n") == 1


def test_llama_cpp_is_not_measured_on_packs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = packed(tmp_path, expert_type="Q4_K")
    assert call("bench", made.path, "--stock", "--tokens", 2, "--prompt-tokens", 2) == 2
    assert "llama.cpp cannot run packs" in capsys.readouterr().err
