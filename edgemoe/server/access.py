"""How endpoints get at the service."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from edgemoe.server.service import Service


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
"""An endpoint's argument of this type is the running service."""
