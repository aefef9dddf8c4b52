"""Several requests to one model from asyncio, one of them cancelled: python examples/asyncio_chat.py [MODEL]."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any

from edgemoe import Cancelled, Llama
from edgemoe.default_model import default_model_path


class AsyncChat:
    """Answers of `llm` for asyncio. A model serves one request at a time; the others wait here, in order."""

    def __init__(self, llm: Llama) -> None:
        self._llm = llm
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")

    async def stream(self, prompt: str, **sampling: Any) -> AsyncGenerator[str, None]:
        """The pieces of an answer. Cancelling the task, or closing the iterator, ends it at once.

        Raises:
            EdgeMoEError: as `create_chat_completion` does.
        """
        async with self._turn:
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[str | None] = asyncio.Queue()
            stopped = threading.Event()

            def put(piece: str | None) -> None:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

            work = loop.run_in_executor(self._thread, self._answer, prompt, sampling, put, stopped)
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                await work  # raises what went wrong
            finally:
                stopped.set()
                while not work.done():
                    self._llm.cancel()  # again, if it came before the request had begun
                    await asyncio.wait({work}, timeout=0.05)

    async def reply(self, prompt: str, **sampling: Any) -> str:
        """A whole answer."""
        async with aclosing(self.stream(prompt, **sampling)) as pieces:
            return "".join([piece async for piece in pieces])

    def close(self) -> None:
        """Ends the thread; the model stays open."""
        self._thread.shutdown()

    def _answer(
        self, prompt: str, sampling: dict[str, Any], put: Callable[[str | None], None], stopped: threading.Event
    ) -> None:
        """On the thread: the loop goes on meanwhile, because llama.cpp computes without Python's lock."""
        try:
            messages: Any = [{"role": "user", "content": prompt}]
            stream: Any = self._llm.create_chat_completion(messages, stream=True, **sampling)
            with closing(stream):
                for chunk in stream:
                    if stopped.is_set():
                        return
                    if text := chunk["choices"][0]["delta"].get("content"):
                        put(text)
        except Cancelled:
            if not stopped.is_set():
                raise
        finally:
            put(None)


async def longest_pause(stop: asyncio.Event) -> float:
    """The most seconds between two turns of the loop."""
    longest, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest


async def chat(llm: Llama) -> None:
    answers = AsyncChat(llm)
    done = asyncio.Event()
    watch = asyncio.create_task(longest_pause(done))
    stories = [answers.reply(f"Tell me a story about a {animal}.", max_tokens=24) for animal in ("fish", "bird")]
    for answer in await asyncio.gather(*stories):
        print("answer:", answer)
    async with aclosing(answers.stream("Tell me a story about a boat.", max_tokens=400)) as pieces:
        count = 0
        async for piece in pieces:
            print(piece, end="|", flush=True)
            if (count := count + 1) == 10:
                break  # leaving the block frees the model
    print("\nleft early")
    late = answers.reply("Tell me of the sea. " * 20, max_tokens=400)
    try:
        print("answer:", await asyncio.wait_for(late, timeout=0.05))
    except asyncio.TimeoutError:
        print("cancelled: no answer in time")
    done.set()
    print(f"the loop never stood still for longer than {await watch:.3f} s")
    answers.close()


def main() -> None:
    with closing(Llama(sys.argv[1] if len(sys.argv) > 1 else default_model_path(), memory="auto")) as llm:
        asyncio.run(chat(llm))


if __name__ == "__main__":
    main()
