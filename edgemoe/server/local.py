"""Answers of one model that is loaded here."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgemoe.config import LocalModel
from edgemoe.server.generation import Generation
from edgemoe.server.prepare import Reader, prepare
from edgemoe.server.reply import Reply
from edgemoe.server.requests import Piece, Request

if TYPE_CHECKING:
    from edgemoe.server.service import Service


async def answer(service: Service, name: str, request: Request) -> Reply:
    """Submits a request to a model, which is loaded first if it has to be.

    Raises:
        RequestError: the request is wrong.
        EdgeMoEError: the model cannot be loaded.
    """
    model = service.settings.models[name]
    hosted, give_back = await service.take_llm(name)
    loaded = time.monotonic()
    try:
        engine = hosted.engine
        asked = _with_system(request, model)
        job, readers = await service.in_thread(lambda: prepare(hosted.llm, asked, engine.ctx, model.sampling))
        engine.check(job)
        job.progress.loaded = loaded
        begun: list[Generation] = []
        reply = Reply(name, job.progress, lambda: engine.cancel(begun[0]))
        begun.append(engine.submit(job, Shaper(reply, request, readers).deliver))
    except BaseException:
        give_back()
        raise
    reply.answered_by.append(name)
    reply.on_end(lambda _: give_back())
    return reply


class Shaper:
    """Between the engine and a reply: reads thoughts and tool calls, and looks whether an answer has its form."""

    def __init__(self, reply: Reply, request: Request, readers: Sequence[Reader]) -> None:
        self._reply, self._readers = reply, readers
        self._text: list[str] | None = [] if request.schema is not None else None

    def deliver(self, piece: Piece | BaseException) -> None:
        """Passes a piece on."""
        if isinstance(piece, BaseException):
            self._reply.deliver(piece)
            return
        if self._text is not None:
            self._text.append(piece.text)
            if piece.finish_reason is not None:
                self._reply.schema_valid = _is_json("".join(self._text))
        parts = [piece]
        for reader in self._readers:
            parts = [part for found in parts for part in reader.read(found)]
        for part in parts:
            self._reply.deliver(part)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _with_system(request: Request, model: LocalModel) -> Request:
    """With the model's own system prompt, unless the conversation has one."""
    if model.system is None or not request.messages or any(m["role"] == "system" for m in request.messages):
        return request
    return replace(request, messages=({"role": "system", "content": model.system}, *request.messages))
