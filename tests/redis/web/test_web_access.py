"""Every chat route asks the authorization hook first (promise 12); CORS admits only configured origins."""

from __future__ import annotations

import json
import time
from itertools import combinations
from typing import get_args

import httpx
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from support.chats.spools import async_spool_for
from support.web.web_server import problem, serve_app, serve_web_app

from chunkspool.errors import SettingsError
from chunkspool.web import AccessDenied, Action, GrantedUntil, SignedTokens, allow_all, create_app

SECRET = "a secret of more than thirty-two bytes"
IN_A_CHAT: list[Action] = [action for action in get_args(Action) if action != "list"]
"""What can be done in a chat: test_web_chat_list.py has the other one."""
HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


def call_every_route(client: httpx.Client, chat: str) -> dict[Action, list[int]]:
    """Call every route of a chat; return the statuses, grouped by the action that a route needs."""
    requests: dict[Action, list[tuple[str, str, object]]] = {
        "ask": [
            ("POST", f"/v1/chats/{chat}/generations", {"prompt": "x", "on_active": "allow"}),
            ("POST", "/api/chat", {"id": chat, "messages": HISTORY}),
        ],
        "read": [
            ("GET", f"/v1/chats/{chat}/events", None),
            ("GET", f"/v1/chats/{chat}", None),
            ("GET", f"/api/chat/{chat}/stream", None),
            ("GET", f"/api/chat/{chat}/messages", None),
        ],
        "stop": [("POST", f"/v1/chats/{chat}/stop", None), ("POST", f"/api/chat/{chat}/stop", None)],
        "erase": [("DELETE", f"/v1/chats/{chat}", None)],
    }
    return {action: [call_route(client, *call) for call in group] for action, group in requests.items()}


def call_route(client: httpx.Client, method: str, path: str, body: object) -> int:
    """Call a route and return its status; the body is not read, as a stream would not end."""
    with client.stream(method, path, json=body) as reply:
        return reply.status_code


def test_every_route_asks_the_hook_for_its_action(redis_url: str) -> None:
    """The hook gets tenant, chat and action; if it returns False, the answer is 403."""
    asked: list[tuple[str, str, Action]] = []

    def refuse(_request: Request, tenant: str, chat_id: str, action: Action) -> bool:
        asked.append((tenant, chat_id, action))
        return False

    with serve_web_app(redis_url, refuse) as site:
        replies = call_every_route(site.client, "c1")
    assert {status for group in replies.values() for status in group} == {403}
    assert asked == [("default", "c1", action) for action, group in replies.items() for _ in group]


async def admit_friends(request: Request, _tenant: str, _chat_id: str, _action: Action) -> bool:
    """Admit friends: an async hook, like one of an app that asks its database."""
    if request.headers.get("x-name") == "stranger":
        raise AccessDenied("who are you?")
    if request.headers.get("x-name") == "teapot":
        raise HTTPException(418, "no coffee")
    return request.headers.get("x-name") == "friend"


def test_a_hook_may_be_async_and_choose_its_status(redis_url: str) -> None:
    """False becomes 403, AccessDenied 401 with a challenge, and an HTTPException its own status."""
    with serve_web_app(redis_url, admit_friends) as site:
        replies = {
            name: site.client.get("/v1/chats/c1", headers={"x-name": name})
            for name in ("friend", "foe", "stranger", "teapot")
        }
    assert {name: reply.status_code for name, reply in replies.items()} == {
        "friend": 404,
        "foe": 403,
        "stranger": 401,
        "teapot": 418,
    }
    assert replies["stranger"].headers["www-authenticate"] == "Bearer"
    assert [problem(replies[name])["title"] for name in ("foe", "stranger")] == ["Forbidden", "Not authorized"]


def test_signed_tokens_guard_a_site(redis_url: str) -> None:
    """A token allows only its actions in its chat; it may also be in the query, for an EventSource."""
    signed = SignedTokens(SECRET)
    with serve_web_app(redis_url, signed) as site:
        assert {status for group in call_every_route(site.client, "c1").values() for status in group} == {401}
        for action in IN_A_CHAT:
            headers = {"Authorization": f"Bearer {signed.issue('c1', [action])}"}
            with httpx.Client(base_url=site.url, headers=headers) as client:
                assert {status for group in call_every_route(client, "c2").values() for status in group} == {403}
        site.client.post("/v1/chats/c1/generations", params={"token": signed.issue("c1")}, json={"prompt": "x"})
        with site.open_stream(f"/v1/chats/c1/events?token={signed.issue('c1', ['read'])}") as stream:
            stream.read_until(lambda s: s.seqs == [1])


@pytest.mark.parametrize("granted", [*combinations(IN_A_CHAT, 1), *combinations(IN_A_CHAT, 2)])
def test_no_right_implies_another(redis_url: str, granted: tuple[Action, ...]) -> None:
    """Who may only ask can neither read nor stop, by any route, nor with any parameter; so for every pair of rights."""
    signed = SignedTokens(SECRET)
    chat, send = "/v1/chats/c1", {"id": "c1", "messages": HISTORY}
    needed: list[tuple[str, str, object, set[Action]]] = [
        ("POST", f"{chat}/generations", {"prompt": "x", "on_active": "allow"}, {"ask"}),
        ("POST", f"{chat}/generations", {"prompt": "x", "on_active": "replace"}, {"ask", "stop"}),
        ("POST", "/api/chat", send, {"ask", "read", "stop"}),
        ("GET", chat, None, {"read"}),
        ("GET", f"{chat}/events", None, {"read"}),
        ("GET", "/api/chat/c1/stream", None, {"read"}),
        ("GET", "/api/chat/c1/messages", None, {"read"}),
        ("POST", f"{chat}/stop", None, {"stop"}),
        ("POST", "/api/chat/c1/stop", None, {"stop"}),
        ("DELETE", chat, None, {"erase"}),
    ]
    headers = {"Authorization": f"Bearer {signed.issue('c1', granted)}"}
    everything = {"Authorization": f"Bearer {signed.issue('c1')}"}
    with serve_web_app(redis_url, signed) as site, httpx.Client(base_url=site.url, headers=headers) as client:
        for method, path, body, rights in needed:
            ask = {"prompt": "x", "on_active": "allow"}
            assert site.client.post(f"{chat}/generations", json=ask, headers=everything).status_code == 202
            status = call_route(client, method, path, body)
            assert (status == 403) == (not rights <= set(granted)), (method, path, status)
            assert status < 300 or status == 403


def test_a_front_end_without_the_right_to_stop_can_still_ask(redis_url: str) -> None:
    """`useChat` needs that right only where an answer is being written, which its new message would stop."""
    signed = SignedTokens(SECRET)
    headers = {"Authorization": f"Bearer {signed.issue('c1', ['ask', 'read'])}"}
    with serve_web_app(redis_url, signed) as site, httpx.Client(base_url=site.url, headers=headers) as client:
        sends = [{"id": "c1", "messages": [{**HISTORY[0], "id": one}]} for one in ("m1", "m2")]
        statuses = [call_route(client, "POST", "/api/chat", send) for send in sends]
    assert statuses == [200, 403]


async def test_tokens_of_another_tenant_are_noticed_at_once(redis_url: str) -> None:
    """An app whose tokens would never be valid is not made."""
    async with async_spool_for(redis_url, tenant="acme") as spool:
        with pytest.raises(SettingsError, match="tenant"):
            create_app(spool, SignedTokens(SECRET))
        create_app(spool, SignedTokens(SECRET, tenant="acme"))


def test_tenants_of_one_app_are_isolated(redis_url: str) -> None:
    """The same chat id is a different chat for each tenant; an invalid tenant is rejected."""
    app = create_app(
        async_spool_for(redis_url),
        lambda *_: True,
        tenant_of=lambda request: request.headers.get("x-tenant", ""),
        closes_spool=True,
    )
    with serve_app(app) as site:
        asked = site.client.post("/v1/chats/c1/generations", json={"prompt": "x"}, headers={"x-tenant": "one"})
        assert asked.status_code == 202
        statuses = [site.client.get("/v1/chats/c1", headers={"x-tenant": t}).status_code for t in ("one", "two", "a{b")]
    assert statuses == [200, 404, 422]


def test_only_pages_of_configured_origins_may_use_the_routes(redis_url: str) -> None:
    """Event streams and problem answers are included; other origins get no CORS header."""
    with serve_web_app(redis_url, cors_origins="https://app.example, https://www.example") as site:
        site.ask("c1")
        for path in ("/v1/chats/c1", "/v1/chats/c1/events", "/api/chat/c1/stream"):
            for origin, allowed in (("https://app.example", True), ("https://evil.example", False)):
                with site.client.stream("GET", path, headers={"Origin": origin}) as reply:
                    assert reply.status_code == 200
                    assert (reply.headers.get("access-control-allow-origin") == origin) == allowed
        missing = site.client.get("/v1/chats/none", headers={"Origin": "https://app.example"})
        assert missing.headers["access-control-allow-origin"] == "https://app.example"
        asked = {
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization,last-event-id",
        }
        preflight = site.client.options("/v1/chats/c1/events", headers={"Origin": "https://www.example", **asked})
        naming = {**asked, "Access-Control-Request-Method": "PUT", "Origin": "https://www.example"}
        assert site.client.options("/v1/chats/c1/title", headers=naming).status_code == 200
    assert preflight.status_code == 200
    assert "access-control-allow-credentials" not in preflight.headers


@pytest.mark.parametrize(
    "header", ["authorization", "last-event-id", "user-agent", "cache-control", "traceparent", "x-of-tomorrow"]
)
def test_such_a_page_may_send_any_header(redis_url: str, header: str) -> None:
    """What the AI SDK and tracing libraries add, too; a page of another origin may send none."""
    origin = "https://app.example"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": header}
    with serve_web_app(redis_url, cors_origins=origin, cors_credentials=True) as site:
        allowed = site.client.options("/api/chat", headers={"Origin": origin, **asked})
        refused = site.client.options("/api/chat", headers={"Origin": "https://evil.example", **asked})
    assert allowed.status_code == 200
    assert header in allowed.headers["access-control-allow-headers"]
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (400, False)


async def test_cookies_are_never_taken_from_everywhere(redis_url: str) -> None:
    """Credentials need named origins: an app for all of them is not made."""
    async with async_spool_for(redis_url, cors_origins="https://a.example, *", cors_credentials=True) as spool:
        with pytest.raises(SettingsError, match="CHUNKSPOOL_CORS_CREDENTIALS"):
            create_app(spool, allow_all)


def test_a_stream_ends_when_its_token_does(redis_url: str) -> None:
    """In every dialect the last event says so; with a new token the client resumes, with the old one it cannot."""
    signed = SignedTokens(SECRET)
    with serve_web_app(redis_url, signed) as site:
        new = {"Authorization": f"Bearer {signed.issue('c1')}"}
        site.client.post("/v1/chats/c1/generations", json={"prompt": "x"}, headers=new)
        old = {"Authorization": f"Bearer {signed.issue('c1', seconds=4)}"}
        with (
            site.open_stream("/v1/chats/c1/events?follow=true", headers=old) as native,
            site.open_stream("/api/chat/c1/stream", headers=old) as usechat,
        ):
            queued, ended = native.read_to_end().events
            parts = [json.loads(event.data) for event in usechat.read_to_end().events if event.data != "[DONE]"]
        assert (ended.name, json.loads(ended.data)["status"]) == ("problem", 401)
        assert "expired" in next(part["errorText"] for part in parts if part["type"] == "error")
        assert site.client.get("/v1/chats/c1/events", headers=old).status_code == 401
        with site.open_stream("/v1/chats/c1/events", headers={**new, "Last-Event-ID": queued.id}) as resumed:
            site.client.post("/v1/chats/c1/stop", headers=new)
            assert [event.name for event in resumed.read_to_end().events] == ["generation.stopped"]


def test_a_hook_may_say_until_when(redis_url: str) -> None:
    """A permission that has ended already is none, in every route."""
    ends_in = [60.0]
    with serve_web_app(redis_url, lambda *_: GrantedUntil(time.time() + ends_in[0])) as site:
        site.ask("c1")
        ends_in[0] = -1
        assert {status for group in call_every_route(site.client, "c1").values() for status in group} == {401}
