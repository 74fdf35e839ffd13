"""Schemathesis calls the web routes with all that their OpenAPI document allows, and with much that it does not."""

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
    """Run the app and a worker that ends what is asked; give the document of the app."""
    start_worker("threads", 4)
    with serve_web_app(redis_url) as site:
        yield schemathesis.openapi.from_url(f"{site.url}/openapi.json")


@pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)
@pytest.mark.parametrize("mode", GenerationMode)
def test_the_routes_do_as_their_document_says(document: BaseSchema, mode: GenerationMode) -> None:
    """Statuses, media types and bodies are those of the document; nothing is a 500; what is wrong is refused."""
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) >= ROUTES
    for operation in operations:
        if mode == GenerationMode.POSITIVE or operation.path_parameters or operation.body:
            call(operation, mode)


def call(operation: APIOperation, mode: GenerationMode) -> None:
    """Call a route with examples."""

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
        # That two names of a request differ, or that a cursor is ahead of its chat, no schema can say.
        case.call_and_validate(timeout=30, excluded_checks=[positive_data_acceptance])

    check()
