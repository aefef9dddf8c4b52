"""`Service`: the models of a server, who may still come in, and what became of each request."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from edgemoe.assistant import Assistant
from edgemoe.default_model import default_model_path
from edgemoe.errors import EdgeMoEError
from edgemoe.server import local, routed, tools
from edgemoe.server.embedding import Embedded, Embedder
from edgemoe.server.errors import Busy, RequestError, UnknownModel, as_request_error
from edgemoe.server.hosted import Hosted
from edgemoe.server.keeper import Keeper
from edgemoe.server.log import Log, Record
from edgemoe.server.models import SharedModels
from edgemoe.server.prepare import count
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Request
from edgemoe.server.settings import AUTO, Settings
from edgemoe.server.snapshot import ModelState, Snapshot

logger = logging.getLogger("edgemoe.server")
T = TypeVar("T")


class Service:
    """What the endpoints call. Its methods belong to one event loop; models compute on threads of their own."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = Log()
        self.shared = SharedModels(settings.models, settings.memory, settings.parallel, on_load=_tell_load)
        self.keeper = Keeper(self.shared, settings.keep_alive)
        self.assistant: Assistant | None = None
        if settings.config is not None:
            self.assistant = Assistant(settings.config, models=self.shared, on_note=logger.info)
        self.in_progress = 0
        self.created = int(time.time())
        self._began = time.monotonic()
        self._owners = itertools.count(-1, -1)
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="edgemoe-requests")
        self._waiting = ThreadPoolExecutor(self.most, "edgemoe-room")  # for room, which `_threads` must never do

    async def start(self) -> None:
        """Begins to look for models that nobody uses."""
        self.keeper.start()

    async def close(self) -> None:
        """Unloads all models; answers that are under way end with an error."""
        self.keeper.stop()
        await self.in_thread(self._close)
        self._waiting.shutdown(wait=False, cancel_futures=True)
        self._threads.shutdown(wait=False)

    def preload(self, name: str) -> None:
        """Loads a model before the loop runs.

        Raises:
            EdgeMoEError: what loading raises.
        """
        owner = next(self._owners)
        self.shared.take(name, owner)
        self.shared.give_back(name, owner)

    def _close(self) -> None:
        if self.assistant is not None:
            self.assistant.close()
        for hosted in self.shared.loaded.values():
            hosted.end()
        self.shared.close()

    # Models

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory."""
        return list(self.shared.loaded)

    @property
    def most(self) -> int:
        """Requests that are admitted at a time."""
        return self.settings.parallel + self.settings.queue

    def models(self) -> list[ModelState]:
        """All that are served, loaded or not; "auto" is not one of them."""
        return [self._state(name, detailed=False) for name in self.settings.models]

    def resolve(self, name: str | None) -> str:
        """The model that a request means; none, or an empty name, is the default one.

        Raises:
            UnknownModel: this server does not have it.
        """
        names = self.settings.names
        if not name:
            return names[0]
        for known in names:
            if name in (known, f"{known}:latest", f"{known}.gguf", f"{known}.mwq.gguf"):
                return known
        raise UnknownModel(name, names)

    async def take_llm(self, name: str) -> tuple[Hosted, Callable[[], None]]:
        """As `take`, a model that makes text.

        Raises:
            RequestError: it makes embeddings.
        """
        hosted, give_back = await self.take(name)
        if not isinstance(hosted, Hosted):
            give_back()
            raise RequestError(f"{name!r} makes embeddings, not text", param="model")
        return hosted, give_back

    async def take(self, name: str) -> tuple[Hosted | Embedder, Callable[[], None]]:
        """A model, loaded, and what has to be called when it is not needed any more.

        Raises:
            EdgeMoEError: what loading raises.
        """
        owner = next(self._owners)

        def give_back() -> None:
            with suppress(RuntimeError):  # the service is closed, and the model with it
                self._threads.submit(self.shared.give_back, name, owner)

        unwanted = threading.Event()
        taking = asyncio.wrap_future(self._waiting.submit(self.shared.take, name, owner, unwanted))
        try:
            return await asyncio.shield(taking), give_back
        except asyncio.CancelledError:  # the client has gone meanwhile
            unwanted.set()
            taking.add_done_callback(lambda taken: None if taken.cancelled() or taken.exception() else give_back())
            raise

    # Requests

    async def chat(self, request: Request, api: str) -> Reply:
        """The answer to a conversation or a prompt, as it comes. Close it when you stop early.

        Raises:
            UnknownModel, TooLong, RequestError: the request is wrong.
            Busy: the queue is full.
            EdgeMoEError: the model cannot be loaded.
        """
        name = self.resolve(request.model)
        self.admit(api, name)
        began = time.monotonic()
        try:
            tools.check(request)
            if name == AUTO:
                assert self.assistant is not None
                reply = await routed.answer(self, self.assistant, request)
            else:
                reply = await local.answer(self, name, request)
        except BaseException as error:
            self.leave()
            self.log.add(Record(api, name, _outcome(error)))
            raise
        reply.progress.asked = began
        reply.on_end(lambda reply: self._ended(reply, api))
        return reply

    async def embed(
        self,
        model: str | None,
        texts: Sequence[str | list[int]],
        api: str,
        *,
        dimensions: int | None = None,
        **limits: Any,
    ) -> Embedded:
        """Texts as vectors, which have to have `dimensions`, if given; `limits` are those of `Embedder.embed`.

        Raises:
            RequestError: the model makes text, not embeddings, or other vectors, or a text cannot be used.
            Busy: the queue is full.
            EdgeMoEError: the model cannot be loaded.
        """
        name = self.resolve(model)
        self.admit(api, name)
        began, outcome, tokens = time.monotonic(), "error", 0
        try:
            hosted, give_back = await self.take(next(iter(self.settings.models)) if name == AUTO else name)
            try:
                if not isinstance(hosted, Embedder):
                    message = f"{name!r} makes text, not embeddings: serve an embedding model for them"
                    raise RequestError(message, param="model")
                if dimensions not in (None, hosted.dimensions):
                    message = f"{dimensions}: the vectors of {name!r} have {hosted.dimensions}, and are not cut"
                    raise RequestError(f"dimensions: {message}", param="dimensions")
                vectors, tokens = await self.in_thread(lambda: hosted.embed(texts, **limits))
            finally:
                give_back()
            outcome = "stop"
            return Embedded(name, vectors, tokens)
        finally:
            self.leave()
            self.log.add(Record(api, name, outcome, prompt_tokens=tokens, total=time.monotonic() - began))

    async def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt that `chat` would evaluate; with "auto", for the first local model."""
        name = self.resolve(request.model)
        hosted, give_back = await self.take_llm(next(iter(self.settings.models)) if name == AUTO else name)
        try:
            return await self.in_thread(lambda: count(hosted.llm, request, hosted.engine.ctx))
        finally:
            give_back()

    def admit(self, api: str, model: str) -> None:
        """Counts a request in, which has to `leave` again.

        Raises:
            Busy: there are too many.
        """
        if self.in_progress >= self.most:
            self.log.add(Record(api, model, "busy"))
            raise Busy(
                f"{self.in_progress} requests are answered or wait: this server takes no more", retry_after=self._wait()
            )
        self.in_progress += 1

    def leave(self) -> None:
        """Counts a request out."""
        self.in_progress -= 1

    def _wait(self) -> int:
        """Seconds after which a place in the queue is probably free."""
        times = [record.total for record in self.log.recent[-32:] if record.total]
        mean = sum(times) / len(times) if times else 1.0
        return max(1, min(60, math.ceil(mean / self.settings.parallel)))

    def _ended(self, reply: Reply, api: str) -> None:
        self.leave()
        self.log.add(record_of(reply, api))

    # Statistics

    def snapshot(self) -> Snapshot:
        """The server at this moment."""
        return Snapshot(
            uptime=time.monotonic() - self._began,
            in_progress=self.in_progress,
            most=self.most,
            routed=self.assistant is not None,
            models=[self._state(name, detailed=True) for name in self.settings.models],
            totals=self.log.totals,
            cost=self.log.cost,
            recent=self.log.recent,
        )

    def _state(self, name: str, *, detailed: bool) -> ModelState:
        model, hosted = self.settings.models[name], self.shared.loaded.get(name)
        path = model.path or default_model_path()
        state = ModelState(name, str(path), model.quality, hosted is not None, self.settings.parallel)
        if hosted is None or not detailed:
            return state
        try:
            return hosted.describe(state)
        except EdgeMoEError:  # another thread unloads it just now
            return replace(state, loaded=False)

    # Threads

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns, while the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def record_of(reply: Reply, api: str) -> Record:
    """What is kept of an answer that has ended."""
    progress, decision = reply.progress, reply.decision
    ended = progress.ended or time.monotonic()
    first = progress.first_token
    later = progress.completion_tokens - 1
    outcome = reply.finish_reason or ("error" if reply.error is not None else "cancelled")
    return Record(
        api=api,
        model=reply.model,
        outcome=outcome,
        prompt_tokens=progress.prompt_tokens,
        cached_tokens=progress.cached_tokens,
        completion_tokens=progress.completion_tokens,
        first_token=first - progress.asked if first is not None else None,
        per_token=(ended - first) / later if first is not None and later > 0 else None,
        total=ended - progress.asked,
        route=decision.route if decision is not None else None,
        escalated=reply.escalated,
        cost=reply.cost,
        schema_valid=reply.schema_valid,
    )


def _outcome(error: BaseException) -> str:
    """Of a request that ended before it began."""
    if not isinstance(error, Exception):
        return "cancelled"
    return "wrong" if as_request_error(error).status < 500 else "error"


def _tell_load(name: str) -> None:
    logger.info("loading %s", name)
