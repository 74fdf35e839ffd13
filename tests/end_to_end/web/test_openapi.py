"""Schemathesis calls the web routes with requests that their OpenAPI document allows, and with invalid ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import schemathesis
from end_to_end.conftest import StartWorker
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import positive_data_acceptance
from schemathesis.schemas import APIOperation, BaseSchema
from support.web.web_server import serve_web_app

EXAMPLES = 15
ROUTES = 9


@pytest.fixture
def document(redis_url: str, start_worker: StartWorker) -> Iterator[BaseSchema]:
    """Run the app and a worker that answers; give the app's OpenAPI document."""
    start_worker("threads", 4)
    with serve_web_app(redis_url) as site:
        yield schemathesis.openapi.from_url(f"{site.url}/openapi.json")


@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
@pytest.mark.parametrize("mode", GenerationMode)
def test_the_routes_match_their_document(document: BaseSchema, mode: GenerationMode) -> None:
    """Statuses, media types and bodies match the document; nothing is a 500; invalid requests are rejected."""
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= ROUTES
    for operation in operations:
        if mode == GenerationMode.POSITIVE or operation.path_parameters or operation.body:
            call_route(operation, mode)


def call_route(operation: APIOperation, mode: GenerationMode) -> None:
    """Call a route with generated requests."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Case) -> None:
        if case.query:
            case.query.pop("follow", None)  # such a stream does not end
        # Some rejections are outside any schema: a cursor ahead of its chat, or a request_id that differs from the
        # Idempotency-Key.
        case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

    check()
