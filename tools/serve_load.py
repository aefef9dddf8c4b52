"""Puts load on a server: no error but 429, answers of the right form, nothing left over, memory inside the budget?

    python tools/serve_load.py MODEL --memory 2GiB --clients 50 --minutes 5

Clients ask at random for streams and whole answers in both APIs, continue their chats, ask for JSON, and some hang up.
The server is one of its own, on a free port. Exit code 1 when something did not hold.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import click
import httpx
import openai
import psutil

from edgemoe.sizes import format_size, parse_size

SUBJECTS = [
    "a dog",
    "a red bird",
    "the sea",
    "an old house",
    "two brothers",
    "a lost ball",
    "rain",
    "the moon",
    "a cake",
    "a brave mouse",
]
SCHEMA = {"type": "object", "properties": {"mood": {"enum": ["glad", "sad"]}}, "required": ["mood"]}
TOKENS = 48


class Load:
    """What all clients share: the server's address, and what happened."""

    def __init__(self, url: str, model: str) -> None:
        self.model = model
        self.counts: Counter[str] = Counter()
        self.first: list[float] = []
        self.wrong: list[str] = []
        self.http = httpx.AsyncClient(base_url=url, timeout=300, limits=httpx.Limits(max_connections=None))
        self.openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)
        self.anthropic = anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0, timeout=300)

    async def client(self, seed: int, end: float) -> None:
        """Asks until the time is over; waits as the server says when it is refused."""
        chance = random.Random(seed)
        kinds: list[Callable[[random.Random], Coroutine[Any, Any, None]]]
        kinds = [self.stream, self.stream, self.chat, self.messages, self.json, self.hang_up]
        while time.monotonic() < end:
            kind = chance.choice(kinds)
            try:
                await kind(chance)
                self.counts[kind.__name__] += 1
            except (openai.RateLimitError, anthropic.RateLimitError) as error:
                self.counts["429"] += 1
                wait = float(error.response.headers["retry-after"]) * chance.uniform(0.5, 1.5)
                await asyncio.sleep(min(wait, max(0.0, end - time.monotonic())))
            except Exception as error:
                self.counts["errors"] += 1
                self.wrong.append(f"{kind.__name__}: {error!r}")

    async def stream(self, chance: random.Random) -> None:
        asked, first = time.monotonic(), None
        stream = await self.openai.chat.completions.create(
            model=self.model, messages=about(chance), max_tokens=TOKENS, stream=True
        )
        reason = None
        async for chunk in stream:
            first = first or time.monotonic()
            reason = chunk.choices[0].finish_reason or reason
        assert first is not None
        assert reason in ("stop", "length"), reason
        self.first.append(first - asked)

    async def chat(self, chance: random.Random) -> None:
        """Two turns."""
        messages = about(chance)
        for _ in range(2):
            answer = await self.openai.chat.completions.create(
                model=self.model, messages=messages, max_tokens=TOKENS, n=chance.choice((1, 1, 2))
            )
            said = answer.choices[0].message.content
            assert answer.usage is not None
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": "And then?"}]

    async def messages(self, chance: random.Random) -> None:
        answer = await self.anthropic.messages.create(model=self.model, messages=about(chance), max_tokens=TOKENS)
        assert answer.stop_reason in ("end_turn", "max_tokens"), answer.stop_reason

    async def json(self, chance: random.Random) -> None:
        form = {"type": "json_object", "schema": SCHEMA}
        answer = await self.openai.chat.completions.create(
            model=self.model, messages=about(chance), max_tokens=TOKENS, response_format=form
        )
        found = json.loads(answer.choices[0].message.content)
        assert found["mood"] in ("glad", "sad"), found

    async def hang_up(self, chance: random.Random) -> None:
        body = {"messages": about(chance), "max_tokens": 400, "stream": chance.random() < 0.5}
        try:
            await self.http.post("/v1/chat/completions", json=body, timeout=chance.uniform(0.02, 1.0))
        except httpx.TimeoutException:
            return


def about(chance: random.Random) -> list[Any]:
    """A conversation of one message."""
    return [{"role": "user", "content": f"Tell me a story about {chance.choice(SUBJECTS)}."}]


@contextmanager
def server(arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its URL."""
    command = [sys.executable, "-m", "edgemoe", "serve", "--port", "0", *arguments]
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}  # the clients need processors, too
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parent)
    assert process.stderr is not None
    said = ""
    while not (found := re.search(r"http://\S+:\d+", said)):
        line = process.stderr.readline()
        if not line:
            raise click.ClickException(f"the server did not start: {said}")
        said += line
    try:
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


async def run(load: Load, clients: int, seconds: float) -> None:
    """All clients together."""
    end = time.monotonic() + seconds
    await asyncio.gather(*(load.client(seed, end) for seed in range(clients)))


def settled(url: str) -> int:
    """Requests that the server still counts after a while."""
    for _ in range(100):
        left = int(httpx.get(f"{url}/health").json()["in_progress"])
        if not left:
            break
        time.sleep(0.1)
    return left


@click.command()
@click.argument("model", required=False)
@click.option("--memory", default="2GiB", show_default=True)
@click.option("--clients", default=50, show_default=True)
@click.option("--minutes", default=5.0, show_default=True)
@click.option("--parallel", default=4, show_default=True)
@click.option("--queue", default=32, show_default=True)
def main(model: str | None, memory: str, clients: int, minutes: float, parallel: int, queue: int) -> None:
    """Start a server of MODEL and ask it for some minutes."""
    if model and os.path.exists(model):
        model = os.path.abspath(model)  # any other is a name
    arguments = [*([model] if model else []), "--memory", memory, "--parallel", str(parallel), "--queue", str(queue)]
    with server(arguments) as (process, url):
        name = httpx.get(f"{url}/v1/models").json()["data"][0]["id"]
        load = Load(url, name)
        began = time.monotonic()
        asyncio.run(run(load, clients, minutes * 60))
        seconds = time.monotonic() - began
        left = settled(url)
        peak = peak_memory(process.pid)
    result = {
        "seconds": round(seconds, 1),
        **load.counts,
        "first event, median": round(statistics.median(load.first), 3) if load.first else None,
        "first event, 95%": round(statistics.quantiles(load.first, n=20)[-1], 3) if len(load.first) > 1 else None,
        "left over": left,
        "peak memory": format_size(peak),
        "budget": memory,
    }
    click.echo(json.dumps(result, indent=2))
    for wrong in load.wrong[:10]:
        click.echo(wrong, err=True)
    over = peak > parse_size(memory, whole=psutil.virtual_memory().total)
    sys.exit(1 if load.wrong or left or over or not load.first else 0)


def peak_memory(pid: int) -> int:
    """Highest resident set of a process, in bytes."""
    with open(f"/proc/{pid}/status") as status:
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read())
    assert found is not None
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
