"""examples/: every program runs and does what its first line says; the public API is typed as they use it."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shutil
import site
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import llama_cpp
import pytest

import edgemoe
from edgemoe import Llama, arguments
from edgemoe.assistant import Answer, Assistant
from edgemoe.batching import Batch
from edgemoe.controls import Controls

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(path for path in EXAMPLES.rglob("*.py"))
DESKTOP = sorted((EXAMPLES / "desktop").glob("*.py"))
# In 6.12.0 every Signal.emit() drops a reference too many to True, which ends a process before Python 3.12.
BROKEN_PYSIDE6 = "6.12.0"


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """`command` with threads that wait asleep: the machine may be busy with other tests."""
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def works(command: list[str], **variables: str) -> str:
    done = run(command, **variables)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_asyncio() -> None:
    printed = works([sys.executable, str(EXAMPLES / "asyncio_chat.py")])
    assert len(re.findall(r"^answer: .{20,}", printed, re.MULTILINE)) == 2
    assert printed.count("|") == 10
    assert "left early\ncancelled: no answer in time\n" in printed
    assert float(re.findall(r"longer than ([\d.]+) s", printed)[0]) > 0


def test_asyncio_tells_what_went_wrong(tmp_path: Path) -> None:
    done = run([sys.executable, str(EXAMPLES / "asyncio_chat.py"), str(tmp_path / "missing.gguf")])
    assert done.returncode == 1
    assert "ModelError: there is no model file" in done.stderr


def test_langchain_with_a_model_in_the_process() -> None:
    whole, pieces = works([sys.executable, str(EXAMPLES / "langchain_chat.py")]).rstrip().rsplit("\n", 1)
    assert "fish" in whole
    assert pieces.count("|") > 10


@contextmanager
def serving() -> Iterator[str]:
    """The URL of `edgemoe serve` with the small model, once it answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "edgemoe", "serve", "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            for _ in range(600):
                with suppress(httpx.TransportError):
                    httpx.get(f"http://127.0.0.1:{port}/health")
                    break
                assert server.poll() is None, server.communicate()[1]
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def test_langchain_with_a_server() -> None:
    """LangChain's own client for OpenAI's protocol."""
    with serving() as url:
        name = httpx.get(f"{url}/models").json()["data"][0]["id"]
        printed = works([sys.executable, str(EXAMPLES / "langchain_chat.py"), url, name])
    whole, pieces = printed.rstrip().rsplit("\n", 1)
    assert "fish" in whole
    assert pieces.count("|") > 5


# Types


def mypy(*files: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    package = Path(edgemoe.__file__).parents[1]
    folders = [str(folder) for folder in (path, package) if folder and str(folder) not in site.getsitepackages()]
    options = ["--strict", "--follow-imports=silent", "--config-file", str(ROOT / "pyproject.toml")]
    cache = ROOT / ".mypy_cache" if os.access(ROOT, os.W_OK) else Path(os.devnull)
    command = [sys.executable, "-m", "mypy", *options, f"--cache-dir={cache}", *map(str, files)]
    return run(command, MYPYPATH=os.pathsep.join(folders))


def test_the_public_api_is_typed() -> None:
    done = mypy(*(path for path in PROGRAMS if path not in DESKTOP))
    assert done.returncode == 0, done.stdout


def test_the_desktop_example_is_typed() -> None:
    pytest.importorskip("PySide6", reason="PySide6 is not installed: pip install '.[desktop]'")
    done = mypy(*DESKTOP, path=DESKTOP[0].parent)
    assert done.returncode == 0, done.stdout


def test_wrong_calls_are_found(tmp_path: Path) -> None:
    program = tmp_path / "wrong.py"
    program.write_text(
        "from edgemoe import Llama\n\n"
        'llm = Llama("model.gguf", memroy="1GiB")\n'
        'llm("Hello.", max_token=3)\n'
        'llm("Hello.", stream=True)["choices"]\n'
        "text: str = llm.stats().hits\n"
    )
    lines = {int(line) for line in re.findall(r"wrong\.py:(\d+): error", mypy(program).stdout)}
    assert lines == {3, 4, 5, 6}


def test_the_typed_program_runs() -> None:
    printed = works([sys.executable, str(EXAMPLES / "typed_api.py")])
    assert edgemoe.__version__ in printed
    assert "the smallest is" in printed


def public(*classes: type) -> set[str]:
    return {name for c in classes for name, value in vars(c).items() if not name.startswith("_") and callable(value)}


def test_the_typed_program_uses_the_whole_api() -> None:
    tree = ast.parse((EXAMPLES / "typed_api.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {name.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for name in node.names}
    assert set(edgemoe.__all__) <= used
    elsewhere = {"from_pretrained", "embed", "close"}  # need a network, another model, and are in a `with`
    elsewhere |= {"start", "stops_with", "note"}  # what an Assistant does with its answers
    elsewhere |= {"decide_here"}  # for the server
    assert public(Controls, Llama, Assistant, Answer) - elsewhere <= used
    described = set(re.findall(r"`(\w+)\(", (ROOT / "docs/api.md").read_text()))
    assert (public(Batch) & described) - elsewhere <= used


def arguments_of(function: Callable[..., object]) -> set[str]:
    """Named ones of llama_cpp's."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in found if parameter.kind in kinds} - {"self"}


def test_typed_arguments_are_those_of_llama_cpp() -> None:
    parent = llama_cpp.Llama
    ours = arguments_of(Llama.__init__)
    assert set(arguments.LlamaArguments.__annotations__) == arguments_of(parent.__init__) - ours
    assert set(arguments.ModelArguments.__annotations__) == (arguments_of(parent.__init__) | ours) - {"model_path"}
    asked = {"prompt", "messages", "stream"}
    assert set(arguments.CompletionOptions.__annotations__) == arguments_of(parent.create_completion) - asked
    assert set(arguments.CompletionOptions.__annotations__) == arguments_of(parent.__call__) - asked
    assert set(arguments.ChatOptions.__annotations__) == arguments_of(parent.create_chat_completion) - asked


# The window


def pyside6() -> str | None:
    """What is missing for a window."""
    if importlib.util.find_spec("PySide6") is None:
        return "PySide6 is not installed (tools/ci/nightly.sh installs it)"
    import PySide6

    if PySide6.__version__ == BROKEN_PYSIDE6 and sys.version_info < (3, 12):
        return f"PySide6 {BROKEN_PYSIDE6} aborts Python before 3.12: install another version"
    return None


def test_desktop() -> None:
    """In an X server of its own where there is one, else on Qt's platform without a screen."""
    if missing := pyside6():
        pytest.skip(missing)
    server = ["xvfb-run", "-a"] if shutil.which("xvfb-run") else []
    platform = "xcb" if server else "offscreen"
    session = [sys.executable, str(ROOT / "tests/desktop_session.py")]
    path = os.pathsep.join(filter(None, (str(EXAMPLES / "desktop"), os.environ.get("PYTHONPATH"))))
    done = run([*server, *session], QT_QPA_PLATFORM=platform, PYTHONPATH=path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    assert "QThread" not in done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["platform"] == platform
    assert seen["while loading"].startswith("The model is being loaded")
    assert seen["typed into"] == "You: Tell me a story about a fish."
    assert len(seen["answer"].splitlines()[1]) > 20
    assert "tok/s" in seen["footer"]
    assert "a budget of 3.00 MiB is too small" in seen["refused"]
    assert seen["slider"] == seen["budget"] == 800
    assert seen["answering at the end"]
    assert seen["thread ended"]
