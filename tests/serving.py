"""Servers for tests: the real one, on loopback, in this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
import uvicorn

from edgemoe import Llama
from edgemoe.config import LocalModel
from edgemoe.conversation import use_own_template
from edgemoe.default_model import default_model_path
from edgemoe.server.app import create_app, error_response
from edgemoe.server.limits import DEFAULT, Limits
from edgemoe.server.protocol import configuration
from edgemoe.server.run import listen
from edgemoe.server.service import Service
from edgemoe.server.settings import Settings

MODEL = "tinystories-moe"
GREEDY: dict[str, Any] = {"temperature": 0.0, "max_tokens": 48}
PROMPT = "Tell me a story about a fish."


@dataclass
class Running:
    """A server that answers, its service, and clients of it."""

    service: Service
    url: str
    api_key: str

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0, timeout=60)

    @property
    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=self.api_key, max_retries=0, timeout=60)

    def engine(self) -> Any:
        return self.service.shared.loaded[MODEL].engine


@contextmanager
def serving(api_key: str | None = None, limits: Limits = DEFAULT, **settings: Any) -> Iterator[Running]:
    """A server of the default model, or of other `settings`."""
    settings = {"models": {MODEL: LocalModel(MODEL, threads=1)}, "memory": "4GiB"} | settings
    service = Service(Settings(**settings))
    bound = listen("127.0.0.1", 0)
    app = create_app(service, api_key=api_key, limits=limits)
    more: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(configuration(app, limits, error_response, **more))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(service, f"http://127.0.0.1:{bound.getsockname()[1]}", api_key or "none")
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    """A connection, for what no client sends."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        yield connection


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def alone() -> Iterator[Llama]:
    """The default model by itself, as a program that imports edgemoe has it."""
    options = {"memory": None, "n_ctx": 512, "n_threads": 1, "n_threads_batch": 1}
    with closing(Llama(default_model_path(), **options)) as llm:
        use_own_template(llm)
        yield llm


def said(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


def ignoring(*errors: type[BaseException]) -> Any:
    return contextlib.suppress(*errors)
