"""The ASGI application: the APIs' routers, one way for errors, and who may call."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from edgemoe import __version__
from edgemoe.errors import EdgeMoEError
from edgemoe.server import anthropic_api, health, metrics, ollama_api, openai_api, page
from edgemoe.server.door import Door
from edgemoe.server.errors import Failed, NotAllowed, NotFound, RequestError, WrongMethod, as_request_error
from edgemoe.server.explanation import explained
from edgemoe.server.limits import DEFAULT, Limits
from edgemoe.server.service import Service
from edgemoe.server.traffic import Counted, Traffic

logger = logging.getLogger("edgemoe.server")

APIS = (anthropic_api, ollama_api, openai_api)
"""Modules with `router`, `PATHS` (prefixes of theirs), `error_body` and `error_event`.

The last one's errors serve all other paths.
"""


def create_app(
    service: Service, *, api_key: str | None = None, hosts: tuple[str, ...] = (), limits: Limits = DEFAULT
) -> FastAPI:
    """The application that serves `service`, and closes it when it ends.

    With an `api_key` every request needs it, but not /health and the files of the page. Without one, only requests to
    this machine's own name are answered, and to `hosts`: a web page elsewhere must not reach the server through a name
    that it controls.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.close()

    # FastAPI's own pages about the schema load their scripts from another host, and are left out.
    app = FastAPI(
        title="edgemoe",
        version=__version__,
        lifespan=lifespan,
        separate_input_output_schemas=False,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.traffic = Traffic()
    for api in (*APIS, health, metrics, page):
        app.include_router(api.router)
    _handle_errors(app)
    app.add_middleware(Door, api_key=api_key, hosts=hosts, limits=limits, refuse=error_response)
    app.add_middleware(Counted, traffic=app.state.traffic)
    return app


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        return error_response(request.url.path, explained(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # what FastAPI says of a body that json.loads could not even refuse
            deep = RequestError(
                "the body cannot be read as JSON: it is nested too deeply, or its characters are no UTF-8"
            )
            return error_response(request.url.path, deep)
        kinds = {404: NotFound, 405: WrongMethod}
        found = kinds.get(error.status_code, RequestError)(f"{request.method} {request.url.path}: {error.detail}")
        response = error_response(request.url.path, found)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        found = as_request_error(error)
        if isinstance(found, Failed):
            logger.error("%s: %s", request.url.path, found, exc_info=None if isinstance(error, EdgeMoEError) else error)
        return error_response(request.url.path, found)

    app.add_exception_handler(EdgeMoEError, failed)  # the other one raises errors again when they are answered


def error_response(path: str, error: RequestError) -> JSONResponse:
    """`error` as the API of `path` says it."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
    if isinstance(error, NotAllowed):
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(_api(path).error_body(error), error.status, headers)


def error_event(path: str, error: RequestError) -> bytes:
    """`error` in a stream that the API of `path` has begun."""
    return _api(path).error_event(error)


def _api(path: str) -> Any:
    return next((api for api in APIS if path.startswith(api.PATHS)), APIS[-1])
