"""`/metrics`: what the server has done, for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import psutil
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from edgemoe.server.access import Served
from edgemoe.server.exposition import CONTENT_TYPE, Sample, family, one, summary
from edgemoe.server.hosted import Hosted
from edgemoe.server.log import OUTCOMES, RECENT, Log
from edgemoe.server.service import Service
from edgemoe.server.traffic import Traffic

router = APIRouter(tags=["server"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, service: Served) -> PlainTextResponse:
    """Counters in Prometheus's text format."""
    traffic: Traffic = request.app.state.traffic
    lines = [*_requests(service, traffic), *_answers(service.log), *_times(service.log)]
    lines += await asyncio.to_thread(lambda: list(_models(service)))  # beside requests that wait for a load
    return PlainTextResponse("".join(lines), headers={"Content-Type": CONTENT_TYPE})


def _requests(service: Service, traffic: Traffic) -> Iterator[str]:
    counts: list[Sample] = [
        ({"method": method, "endpoint": path, "status": status}, count)
        for (method, path, status), count in sorted(traffic.counts.items())
    ]
    yield family(
        "edgemoe_http_requests_total", "counter", "Requests by endpoint and status; 499: the client hung up.", counts
    )
    engines = [hosted.engine for hosted in service.shared.loaded.values() if isinstance(hosted, Hosted)]
    rows = (
        ("edgemoe_requests_in_progress", "Admitted requests that have not ended.", service.in_progress),
        ("edgemoe_requests_limit", "Requests that are admitted at a time; more are refused.", service.most),
        ("edgemoe_requests_active", "Answers that are computed now.", sum(engine.active for engine in engines)),
        ("edgemoe_requests_waiting", "Answers that wait for a place.", sum(engine.waiting for engine in engines)),
    )
    for name, text, value in rows:
        yield one(name, "gauge", text, value)


def _answers(log: Log) -> Iterator[str]:
    totals = log.totals
    for name, kind, known, text in _LABELLED:
        yield family(f"edgemoe_{name}_total", "counter", text, _labelled(totals, kind, known))
    for name, key, text in _COUNTERS:
        yield one(f"edgemoe_{name}_total", "counter", text, totals.get(key, 0))
    accepted = totals.get("accepted", 0)
    cost = log.cost
    yield one("edgemoe_cost_total", "counter", "Money that answers cost.", cost)
    per_answer = cost / accepted if accepted else 0.0
    yield one("edgemoe_cost_per_accepted_answer", "gauge", "That money by the accepted answers.", per_answer)


def _times(log: Log) -> Iterator[str]:
    recent, times = log.recent, log.times
    for name, text, field in _SECONDS:
        values = [value for record in recent if (value := getattr(record, field))]
        yield summary(name, f"{text} Quantiles are of the newest {RECENT} requests.", values, *times[field])


def _labelled(totals: Mapping[str, int], kind: str, known: Sequence[str]) -> list[Sample]:
    """The totals "kind.NAME", and 0 for known ones that did not occur."""
    found = dict.fromkeys(known, 0)
    found |= {key.partition(".")[2]: value for key, value in totals.items() if key.startswith(f"{kind}.")}
    return [({kind: name}, value) for name, value in found.items()]


def _models(service: Service) -> Iterator[str]:
    loaded, sums = service.shared.counters()
    yield family(
        "edgemoe_model_loaded", "gauge", "1 for models in memory.", [(_model(m), int(m in loaded)) for m in sums]
    )
    for name, key, text in _SUMS:
        yield family(f"edgemoe_{name}_total", "counter", text, [(_model(m), c[key]) for m, c in sums.items()])
    used = {m: c["hits"] + c["misses"] for m, c in sums.items()}
    rates: list[Sample] = [(_model(m), c["hits"] / used[m]) for m, c in sums.items() if used[m]]
    yield family("edgemoe_expert_hit_rate", "gauge", "Hits by hits and misses, since the server began.", rates)
    for name, field, text in _SIZES:
        yield family(name, "gauge", text, [(_model(m), getattr(stats, field)) for m, stats in loaded.items()])
    budgets = [stats.budget_bytes for stats in loaded.values() if stats.budget_bytes is not None]
    if budgets:
        yield one("edgemoe_budget_bytes", "gauge", "Memory that the process may use.", max(budgets))
    resident = psutil.Process().memory_info().rss
    yield one("edgemoe_process_resident_bytes", "gauge", "Memory that the process has now.", resident)


def _model(name: str) -> Mapping[str, str]:
    return {"model": name}


_LABELLED = (
    (
        "answers",
        "outcome",
        OUTCOMES,
        "Answers by how they ended: stop, length, tool_calls and refused are finish reasons; wrong is a status of 400, "
        "busy of 429, error of 500 and above; cancelled, where the client hung up.",
    ),
    ("answers_by_api", "api", (), "The same by the API that was asked."),
    ("routes", "route", ("local", "cloud"), "Answers of the model auto, by the route that was chosen."),
    (
        "tokens",
        "tokens",
        ("prompt", "cached", "completion"),
        "Tokens of prompts, of those the ones that an earlier request had evaluated (cached), and of answers.",
    ),
)
_COUNTERS = (
    ("escalations", "escalations", "Local answers that the cloud replaced."),
    ("schema_answers", "schema.answers", "Answers that were to have a JSON schema and have ended."),
    ("schema_valid_answers", "schema.valid", "Of those, the ones that have the form."),
    (
        "accepted_answers",
        "accepted",
        "Answers that ended by themselves, by a call or by their limit, and have the form that was asked for.",
    ),
)
_SECONDS = (
    ("edgemoe_first_token_seconds", "From a request to the first token of its answer.", "first_token"),
    ("edgemoe_token_seconds", "Mean time between the tokens of an answer, one for each answer.", "per_token"),
    ("edgemoe_request_seconds", "From a request to the end of its answer.", "total"),
)
_SUMS = (
    ("expert_hits", "hits", "Experts of a layer that a batch used and found in memory."),
    ("expert_misses", "misses", "Experts of a layer that a batch used and had to read."),
    ("read_bytes", "bytes_read", "Bytes that were read from the model's files, loading included."),
)
_SIZES = (
    ("edgemoe_resident_expert_bytes", "resident_bytes", "Bytes of experts in memory."),
    ("edgemoe_cache_bytes", "cache_bytes", "Bytes that experts may have."),
)
