"""The page at `/`: a chat, and the engine seen at work. It loads nothing from any other host."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import Response

from edgemoe.server.door import OPEN_FOLDER
from edgemoe.server.errors import NotFound
from edgemoe.server.page.state import EngineState, Shared

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

router = APIRouter(tags=["page"])


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _file("index.html")


@router.get(OPEN_FOLDER + "{name}", include_in_schema=False)
async def part(name: str) -> Response:
    """A file that the page loads."""
    return _file(name)


@router.get("/engine")
async def engine(state: Shared) -> EngineState:
    """The engine at this moment, as the page draws it; at most half a second old."""
    return state


def _file(name: str) -> Response:
    kind = _TYPES.get(name.rpartition(".")[2])
    path = files(__name__).joinpath(name)
    if kind is None or "/" in name or not path.is_file():
        raise NotFound(f"the page has no file {name[:80]!r}")
    return Response(path.read_bytes(), headers=_HEADERS, media_type=f"{kind}; charset=utf-8")
