"""`/health`: whether the server answers, for those that watch it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from edgemoe.server.access import Served

router = APIRouter(tags=["server"])


class Health(BaseModel):
    """The server is there; models are loaded when they are asked for."""

    status: str = "ok"
    loaded: list[str] = Field(description="Names of the models in memory.")
    in_progress: int = Field(description="Requests that are answered or wait.")


@router.head("/health", include_in_schema=False)
@router.get("/health")
async def health(service: Served) -> Health:
    """Says "ok" as long as the server answers."""
    return Health(loaded=service.loaded, in_progress=service.in_progress)
