"""A page of another origin changes nothing, unless its origin is configured."""

from __future__ import annotations

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.web.web_server import Site, problem, serve_web_app

CHANGES = [
    ("POST", f"/v1/chats/{CHAT}/stop"),
    ("POST", f"/v1/chats/{CHAT}/generations"),
    ("POST", f"/api/chat/{CHAT}/stop"),
    ("POST", "/api/chat"),
    ("PUT", f"/v1/chats/{CHAT}/title"),
    ("DELETE", f"/v1/chats/{CHAT}"),
]
FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": ""},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "of tomorrow"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_foreign_page_changes_nothing(site: Site, client: Redis, headers: dict[str, str]) -> None:
    """403 for each request that would ask, stop or erase, also without a body, which needs no preflight."""
    made = site.ask(CHAT)["generation"]
    for method, path in CHANGES:
        reply = site.client.request(method, path, headers=headers)
        assert reply.status_code == 403, path
        assert problem(reply)["type"].endswith("forbidden")
    assert client.hget(KEYS.gen(made), "status") == b"queued"


def test_the_own_page_and_clients_without_an_origin_are_let_through(site: Site) -> None:
    """Curl and servers send neither header; a proxy may have changed the host, which `Sec-Fetch-Site` does not need."""
    site.ask(CHAT)
    own = {"Origin": site.url}
    behind_proxy = {"Origin": "https://app.example", "Sec-Fetch-Site": "same-origin"}
    typed = {"Sec-Fetch-Site": "none"}
    for headers in ({}, own, {"Origin": site.url.upper()}, behind_proxy, typed):
        assert site.client.post(f"/v1/chats/{CHAT}/stop", headers=headers).status_code == 202, headers


def test_reading_is_not_refused(site: Site) -> None:
    """CORS keeps a foreign page from seeing the answer; a link from elsewhere still works."""
    site.ask(CHAT)
    for headers in FOREIGN:
        assert site.client.get(f"/v1/chats/{CHAT}", headers=headers).status_code == 200


@pytest.mark.parametrize("configured", ["https://app.example", "https://other.example, https://app.example", "*"])
def test_a_configured_origin_may(redis_url: str, configured: str) -> None:
    """Those of CHUNKSPOOL_CORS_ORIGINS, and with * all of them."""
    headers = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    with serve_web_app(redis_url, cors_origins=configured) as site:
        site.ask(CHAT)
        assert site.client.post(f"/v1/chats/{CHAT}/stop", headers=headers).status_code == 202
        others = site.client.post(f"/v1/chats/{CHAT}/stop", headers=FOREIGN[0])
        assert others.status_code == (202 if configured == "*" else 403)
