"""The page at `/`."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

router = APIRouter(tags=["page"])


@router.get("/", response_class=PlainTextResponse, include_in_schema=False)
async def page() -> str:
    """Where everything is."""
    return "edgemoe serves /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models and /v1/messages.\n"
