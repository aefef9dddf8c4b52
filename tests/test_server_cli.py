"""`edgemoe serve`: what it says, what it refuses, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from assistants import HARD
from edgemoe import EdgeMoEError
from edgemoe.cli import cli
from edgemoe.config import Config, LocalModel
from edgemoe.default_model import default_model_path
from edgemoe.hub.known import Known, add
from edgemoe.server.durations import parse_duration
from edgemoe.server.run import is_loopback
from edgemoe.server.settings import name_of
from edgemoe.serving.settings import Fleet

said: dict[int, str] = {}
"""By process, until it told its URL."""


def said_by(process: subprocess.Popen[str]) -> str:
    return said[process.pid]


@contextmanager
def started(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program, and the URL that it tells."""
    command = [
        sys.executable,
        "-m",
        "edgemoe",
        "serve",
        "--port",
        "0",
        "--memory",
        "4GiB",
        *([] if "--route" in arguments else ["--threads", "1"]),
        *arguments,
    ]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        said[process.pid] = ""
        while not (url := re.search(r"http://\S+:\d+", said[process.pid])):
            line = process.stderr.readline()
            assert line, "it ended"
            said[process.pid] += line
        yield process, url[0]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "edgemoe", "serve", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(sent: signal.Signals) -> None:
    with started() as (process, url):
        body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        assert httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).status_code == 200
        process.send_signal(sent)
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--port", str(port)) == (
            f"edgemoe: port {port} is in use: choose another with --port, or 0 for a free one"
        )


def test_a_short_name_is_what_requests_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    add(Known("stories", (default_model_path().absolute(),)))
    with started("stories") as (_, url):
        [listed] = httpx.get(f"{url}/v1/models", timeout=60).json()["data"]
        assert listed["id"] == "stories"
        body = {"model": "stories", "prompt": "Once", "max_tokens": 2}
        assert httpx.post(f"{url}/v1/completions", json=body, timeout=60).status_code == 200
    assert Fleet(model="stories").server().names == ["stories"]


def test_a_model_that_is_none_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"no model")
    assert "broken.gguf" in refused(str(path), "--port", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "can be reached by others: set an --api-key"),
        (["--host", "example.invalid"], "can be reached by others"),
        (["--config", __file__], "--config means nothing without --route"),
        (["--local-only"], "--local-only means nothing without --route"),
        (["--route", "--quality", "fast"], "--quality is of one model"),
        (["--keep-alive", "soon"], "'soon' is no time: use 30s, 5m, 1h or never"),
        (["--parallel", "0"], "parallel"),
        (["--memory", "1KiB"], "a budget of 1.00 KiB is too small"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, ["serve", "--port", "0", *arguments])
    assert done.exit_code != 0
    assert message in f"{done.output}{done.exception}"


def test_another_host_works_with_a_key() -> None:
    with started("--host", "0.0.0.0", "--api-key", "k") as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer k"}).status_code == 200


def test_two_servers_on_one_budget_are_noticed() -> None:
    with started("--memory", "60%"), started("--memory", "60%") as (process, _):
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert "more memory is promised than the machine's" in said_by(process)


def test_a_server_that_lets_nothing_leave_the_machine(tmp_path: Path, router_file: Path) -> None:
    config = tmp_path / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as cloud:  # would see who asks
        cloud.settimeout(0)
        url = f"http://127.0.0.1:{cloud.getsockname()[1]}/v1"
        config.write_text(
            f'router = "{router_file}"\nstate = "{tmp_path}"\n[local.small]\nctx = 512\nthreads = 1\n'
            f'[cloud.big]\nbase_url = "{url}"\nmodel = "m"\n'
        )
        with started("--route", "--local-only", "--config", str(config)) as (process, url):
            assert "nothing leaves this machine" in said_by(process)
            body = {"model": "auto", "messages": [{"role": "user", "content": HARD}], "max_tokens": 4}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        assert (answer["model"], answer["edgemoe"]["rule"]) == ("small", "local only")
        with pytest.raises(BlockingIOError):
            cloud.accept()


def test_times() -> None:
    assert [parse_duration(text) for text in ("30s", "5m", "1.5h", "90", "0", "never")] == [30, 300, 5400, 90, 0, None]
    for wrong in ("", "5 days", "-1", "nan", "1e9"):
        with pytest.raises(EdgeMoEError, match="is no time"):
            parse_duration(wrong)


def test_names_and_hosts() -> None:
    assert name_of(Path("x/tiny.mwq.gguf")) == "tiny"
    assert name_of(Path("tiny-Q4_K.gguf")) == "tiny-Q4_K"
    assert is_loopback("127.0.0.2")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("example.com")


def test_no_model_may_be_called_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(local={"auto": LocalModel("auto")})
    monkeypatch.setattr("edgemoe.config.load_config", lambda path: config)
    done = CliRunner().invoke(cli, ["serve", "--route", "--port", "0"])
    assert "which is the router's name" in str(done.exception)
