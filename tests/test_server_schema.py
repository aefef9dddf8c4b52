"""Whatever the OpenAPI schema allows or forbids is answered as the schema says, and never with a server error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from edgemoe.config import LocalModel
from serving import MODEL, serving

EXAMPLES = int(os.environ.get("EDGEMOE_SCHEMA_EXAMPLES", "15"))
ALLOWED = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    ("/v1/chat/completions", "POST"),
    ("/v1/completions", "POST"),
    ("/v1/embeddings", "POST"),
    ("/v1/messages", "POST"),
    ("/v1/messages/count_tokens", "POST"),
    ("/api/chat", "POST"),
    ("/api/generate", "POST"),
    ("/api/embed", "POST"),
    ("/api/show", "POST"),
    ("/api/tags", "GET"),
    ("/api/ps", "GET"),
    ("/api/version", "GET"),
    ("/v1/models", "GET"),
    ("/v1/models/{name}", "GET"),
    ("/health", "GET"),
    ("/metrics", "GET"),
    ("/engine", "GET"),
]
WITH_BODIES = [operation for operation in OPERATIONS if operation[1] == "POST"]


def refusing(status: int) -> schemathesis.Config:
    """Bodies that are wrong may also be answered with `status`: what is too large is not looked at."""
    config = schemathesis.Config()
    checks = config.projects.default.checks
    checks.negative_data_rejection.expected_statuses = [*checks.negative_data_rejection.expected_statuses, str(status)]
    return config


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The schema of a server whose contexts are so short that every answer is."""
    with serving(models={MODEL: LocalModel(MODEL, ctx=64, threads=1)}, memory="4GiB") as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json", config=refusing(413))


def try_out(api: Any, path: str, method: str, mode: GenerationMode, checks: list[Any]) -> None:
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    def test(case: Any) -> None:
        case.call_and_validate(checks=checks, timeout=60)

    test()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_what_is_allowed_is_answered(api: Any, path: str, method: str) -> None:
    try_out(api, path, method, GenerationMode.POSITIVE, ALLOWED)


@pytest.mark.parametrize(("path", "method"), WITH_BODIES)
def test_what_is_forbidden_is_refused(api: Any, path: str, method: str) -> None:
    try_out(api, path, method, GenerationMode.NEGATIVE, [*ALLOWED, negative_data_rejection])


def test_nothing_is_left_out(api: Any) -> None:
    found = {(path, method.upper()) for path, item in api.raw_schema["paths"].items() for method in item}
    assert found == set(OPERATIONS)
