"""One set of containers for all tests of docker-compose.yml."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
from support.containers.compose import SECRETS, Stack, run_stack
from support.waiting import eventually

from chunkspool.web import SignedTokens

log = logging.getLogger(__name__)
COUNTS = {"redis": 1, "web": 1, "worker": 2, "flower": 1, "model": 1, "prometheus": 1}
VARIABLES = {
    # The demo's model, and the scripted provider for who asks for the model `scripted`.
    "CHUNKSPOOL_PROVIDER": "openai_api,scripted",
    "CHUNKSPOOL_MODEL_PROVIDERS": "scripted=scripted",
    "OPENAI_BASE_URL": "http://model:8080/v1",
    "CHUNKSPOOL_RECOVERY": "continue",
}
PATIENCE = 90.0


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Build the images and start the containers, with a model that needs no key."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    with run_stack(COUNTS, VARIABLES) as running:
        log.info("docker compose up: %s", ", ".join(f"{count} {name}" for name, count in COUNTS.items()))
        yield running


@pytest.fixture
def web(stack: Stack) -> Iterator[httpx.Client]:
    """Give a client of the web app, with a token for every chat."""
    eventually(lambda: stack.health("web") == {"healthy"}, PATIENCE, 1)
    headers = {"Authorization": f"Bearer {SignedTokens(SECRETS['CHUNKSPOOL_TOKEN_SECRET']).issue('*')}"}
    with httpx.Client(base_url=stack.url("web"), headers=headers, timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def flower(stack: Stack) -> Iterator[httpx.Client]:
    """Give a client of Flower, with its user and password."""
    eventually(lambda: stack.health("flower") == {"healthy"}, PATIENCE, 1)
    user, _, password = SECRETS["FLOWER_BASIC_AUTH"].partition(":")
    with httpx.Client(base_url=stack.url("flower"), auth=(user, password), timeout=PATIENCE) as client:
        yield client
