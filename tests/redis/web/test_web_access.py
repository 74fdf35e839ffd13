"""Every route of a chat asks the hook first (promise 12); browsers of other origins are let in where that is set."""

from __future__ import annotations

import httpx
from starlette.exceptions import HTTPException
from starlette.requests import Request
from support.chats.spools import async_spool_for
from support.web.web_server import problem, serve_app, serve_web_app

from chunkspool.web import AccessDenied, Action, SignedTokens, create_app

SECRET = "a secret of enough characters"
HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


def calls(client: httpx.Client, chat: str) -> dict[Action, list[int]]:
    """Call every route of a chat; return the statuses by the action that they need."""
    every: dict[Action, list[tuple[str, str, object]]] = {
        "ask": [
            ("POST", f"/v1/chats/{chat}/generations", {"prompt": "x", "on_active": "allow"}),
            ("POST", "/api/chat", {"id": chat, "messages": HISTORY}),
        ],
        "read": [
            ("GET", f"/v1/chats/{chat}/events", None),
            ("GET", f"/v1/chats/{chat}", None),
            ("GET", f"/api/chat/{chat}/stream", None),
        ],
        "stop": [("POST", f"/v1/chats/{chat}/stop", None), ("POST", f"/api/chat/{chat}/stop", None)],
        "erase": [("DELETE", f"/v1/chats/{chat}", None)],
    }
    return {action: [status(client, *call) for call in group] for action, group in every.items()}


def status(client: httpx.Client, method: str, path: str, body: object) -> int:
    """Call a route; hang up when its status is known."""
    with client.stream(method, path, json=body) as reply:
        return reply.status_code


def test_every_route_asks_the_hook_for_its_action(redis_url: str) -> None:
    """The hook is given tenant, chat and action; what it refuses is a 403, and nothing is done."""
    asked: list[tuple[str, str, Action]] = []

    def refuse(_request: Request, tenant: str, chat_id: str, action: Action) -> bool:
        asked.append((tenant, chat_id, action))
        return False

    with serve_web_app(redis_url, refuse) as site:
        replies = calls(site.client, "c1")
    assert {one for group in replies.values() for one in group} == {403}
    assert asked == [("default", "c1", action) for action, group in replies.items() for _ in group]


async def async_friend(request: Request, _tenant: str, _chat_id: str, _action: Action) -> bool:
    """Let friends in, as an app does that asks its database."""
    if request.headers.get("x-name") == "stranger":
        raise AccessDenied("who are you?")
    if request.headers.get("x-name") == "teapot":
        raise HTTPException(418, "no coffee")
    return request.headers.get("x-name") == "friend"


def test_a_hook_may_be_async_and_choose_its_status(redis_url: str) -> None:
    """False is 403, AccessDenied 401 with a challenge, and an HTTPException is what it says."""
    with serve_web_app(redis_url, async_friend) as site:
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
    """Each action needs its own grant, in its own chat; a token in the query is for EventSources."""
    signed = SignedTokens(SECRET)
    with serve_web_app(redis_url, signed) as site:
        assert {one for group in calls(site.client, "c1").values() for one in group} == {401}
        for action in ("ask", "read", "stop", "erase"):
            headers = {"Authorization": f"Bearer {signed.issue('c1', [action])}"}
            with httpx.Client(base_url=site.url, headers=headers) as client:
                for needed, statuses in calls(client, "c1").items():
                    assert (403 in statuses) == (needed != action), (needed, statuses)
                assert {one for group in calls(client, "c2").values() for one in group} == {403}
        site.client.post("/v1/chats/c1/generations", params={"token": signed.issue("c1")}, json={"prompt": "x"})
        with site.open_stream(f"/v1/chats/c1/events?token={signed.issue('c1', ['read'])}") as stream:
            stream.read_until(lambda s: s.seqs == [1])


def test_tenants_of_one_site_stay_apart(redis_url: str) -> None:
    """The same chat id is another chat for another tenant; a tenant that is none is refused."""
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


def test_pages_of_the_named_origins_may_use_the_routes(redis_url: str) -> None:
    """Also the event streams, and also where the answer is a problem; others get no leave."""
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
    assert preflight.status_code == 200
