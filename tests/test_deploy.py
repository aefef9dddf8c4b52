"""The systemd unit and the Dockerfile of docs/deploy.md: systemd accepts the unit, and what they start exists."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from edgemoe.cli.serve import command

PAGE = Path(__file__).resolve().parents[1] / "docs" / "deploy.md"


def block(begins: str) -> str:
    found = [text for text in re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL) if text.startswith(begins)]
    assert len(found) == 1
    return str(found[0])


def options(arguments: list[str], model: Path) -> dict[str, object]:
    """What `edgemoe serve` would be started with."""
    arguments = [str(model) if argument.endswith(".gguf") else argument for argument in arguments]
    with command.make_context("serve", arguments) as context:
        assert isinstance(context, click.Context)
        return dict(context.params)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.touch()
    return path


def test_what_the_unit_starts_exists(model: Path) -> None:
    [started] = re.findall(r"^ExecStart=/usr/bin/env edgemoe serve (.*)$", block("[Unit]"), re.MULTILINE)
    found = options(shlex.split(started), model)
    assert found["memory"] == "8GiB"
    assert found["keep_alive"] == "never"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "edgemoe.service"
    unit.write_text(block("[Unit]"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    if re.search("Failed to (connect|initialize|setup|set up)|bus|XDG_RUNTIME_DIR", done.stderr):
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()[:200]}")
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(block("[Unit]").replace("MemoryMax=", "MemoryMost="))
    wrong = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert "MemoryMost" in wrong.stderr


def test_what_the_container_starts_exists(model: Path) -> None:
    text = block("FROM")
    lists = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE))
    entry, rest = (re.findall(r'"([^"]*)"', lists[name]) for name in ("ENTRYPOINT", "CMD"))
    assert entry[:2] == ["edgemoe", "serve"]
    found = options([*entry[2:], *rest], model)
    assert (found["host"], found["port"]) == ("0.0.0.0", 8080)
    assert "EXPOSE 8080" in text
    assert "127.0.0.1:8080/health" in text


def test_the_dockerfile_has_only_instructions_that_there_are() -> None:
    lines = re.sub(r"\\\n", " ", block("FROM")).splitlines()
    known = {"FROM", "RUN", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {line.split()[0] for line in lines if line} <= known
    stages = [line.split()[-1] for line in lines if line.startswith("FROM") and " AS " in line]
    assert all(stage in stages for stage in re.findall(r"--from=(\w+)", "\n".join(lines)))
