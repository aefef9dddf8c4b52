"""`/metrics`: counters for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from edgemoe.server.access import Served

router = APIRouter(tags=["server"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: Served) -> str:
    """Counters in Prometheus's text format."""
    snapshot = service.snapshot()
    rows = {"edgemoe_requests_in_progress": ("gauge", snapshot.in_progress)}
    rows |= {
        f"edgemoe_{name.replace('.', '_')}_total": ("counter", value) for name, value in sorted(snapshot.totals.items())
    }
    return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in rows.items())
