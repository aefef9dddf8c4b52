"""Whatever the OpenAPI schema allows or forbids is answered as the schema says, and never with a server error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from edgemoe.config import LocalModel
from serving import MODEL, serving

EXAMPLES = int(os.environ.get("EDGEMOE_SCHEMA_EXAMPLES", "20"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The schema of a server whose contexts are so short that every answer is."""
    with serving(models={MODEL: LocalModel(MODEL, ctx=64, threads=1)}, memory="4GiB") as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json")


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_endpoint_keeps_its_word(case: Any) -> None:
    case.call_and_validate(checks=CHECKS, timeout=60)
