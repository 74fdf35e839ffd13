"""What a web user may ask for, on both routes that ask: by the app's hook, or safe defaults without one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from support.chats.logs import CHAT, KEYS
from support.chats.spools import spool_for
from support.servers.contents import list_keys
from support.web.web_server import Site, problem, serve_app, serve_web_app

from chunkspool import Spool
from chunkspool.web import AskedGeneration, Refused, SafeAdmission

PROJECT = Path(__file__).resolve().parents[3]
PARTS = [{"type": "text", "text": "hello"}]
TOOL_PART = {"type": "tool-clock", "toolCallId": "c1", "state": "output-available", "input": {}, "output": "noon"}


def ask_json(site: Site, **fields: Any) -> httpx.Response:
    """Ask on the JSON route."""
    return site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "hello", **fields})


def ask_usechat(site: Site, **fields: Any) -> httpx.Response:
    """Ask as an AI SDK front end does; the stream is not read, as it would not end."""
    sent = {"id": CHAT, "messages": [{"id": "m1", "role": "user", "parts": PARTS}], **fields}
    with site.client.stream("POST", "/api/chat", json=sent) as reply:
        if reply.status_code != 200:
            reply.read()
        return reply


Ask = Callable[..., httpx.Response]
BOTH = pytest.mark.parametrize("ask", [ask_json, ask_usechat])
BAD: list[Mapping[str, Any]] = [
    {"model": "the-most-expensive"},
    {"params": {"n": 100}},
    {"params": {"max_tokens": 51}},
    {"params": {"tools": [{"type": "function", "function": {"name": "x"}}]}},
    {"params": {"service_tier": "priority"}},
    {"params": {"api_base": "http://169.254.169.254"}},
    {"params": {"user": "another"}},
    {"params": {"stream_options": None}},
]


@BOTH
@pytest.mark.parametrize("fields", BAD, ids=str)
def test_without_a_hook_little_is_the_users_to_choose(
    redis_url: str, client: Redis, ask: Ask, fields: Mapping[str, Any]
) -> None:
    """422 that says what is allowed, and nothing is written."""
    with serve_web_app(redis_url, admit=None, web_models="small", web_max_tokens=50) as site:
        document = problem(ask(site, **fields))
    assert (document["status"], document["type"]) == (422, "urn:chunkspool:problem:refused")
    assert "may be" in document["detail"] or "may have" in document["detail"]
    assert list_keys(client) == []


@BOTH
def test_without_a_hook_what_is_harmless_passes(redis_url: str, spool: Spool, ask: Ask) -> None:
    """A listed model, and params within their bounds."""
    with serve_web_app(redis_url, admit=None, web_models="small", web_max_tokens=50) as site:
        reply = ask(site, model="small", params={"temperature": 0.5, "max_tokens": 50, "seed": None})
        assert reply.status_code in {200, 202}
        (generation_id,) = spool.status(CHAT).active
    with spool.produce(CHAT, generation_id) as out:
        assert (out.request.model, out.request.params) == ("small", {"temperature": 0.5, "max_tokens": 50})
        assert list(out.request.messages) == [{"role": "user", "content": "hello"}]


def test_without_a_hook_system_messages_are_refused(redis_url: str, client: Redis) -> None:
    """They are the app's, on either route and with whatever stands around them; tool messages are the user's."""
    user = {"role": "user", "content": "x"}
    system = {"id": "m0", "role": "system", "parts": PARTS}
    with serve_web_app(redis_url, admit=None) as site:
        replies = [
            ask_json(site, prompt=None, messages=[{"role": role, "content": "obey"}, user])
            for role in ("system", "developer")
        ]
        replies.append(ask_usechat(site, messages=[system, {"id": "m1", "role": "user", "parts": PARTS}]))
        for reply in replies:
            assert problem(reply)["detail"].startswith("message 1: the role ")
        assert list_keys(client) == []
        answered = [
            {"id": "m1", "role": "user", "parts": PARTS},
            {"id": "m2", "role": "assistant", "parts": [TOOL_PART]},
        ]
        assert ask_usechat(site, messages=answered).status_code == 200


def test_without_a_hook_nothing_runs_beside_another(redis_url: str) -> None:
    """`allow` is the app's to allow, `replace` and `queue` are not."""
    with serve_web_app(redis_url, admit=None) as site:
        assert ask_json(site).status_code == 202
        assert ask_json(site, on_active="queue").status_code == 202
        refused = problem(ask_json(site, on_active="allow"))
        assert (refused["status"], refused["type"].rpartition(":")[2]) == (422, "refused")
        assert ask_json(site, on_active="replace").status_code == 202


@BOTH
@pytest.mark.parametrize("is_async", [False, True])
def test_the_hook_decides_what_a_worker_is_asked(redis_url: str, spool: Spool, ask: Ask, is_async: bool) -> None:
    """It sees request, tenant, chat and what is asked, and returns it as it shall be; it may be async."""
    seen: list[tuple[str, str, str | None, AskedGeneration]] = []

    def admit(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:
        seen.append((tenant, chat_id, request.headers.get("x-user"), asked))
        changed = replace(asked, model="small", params={"tools": ["mine"]}, owner="ann", ttl=60.0)
        return changed.with_system("Be kind.")

    async def admit_later(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:
        await asyncio.sleep(0)
        return admit(request, tenant, chat_id, asked)

    with serve_web_app(redis_url, admit=admit_later if is_async else admit) as site:
        site.client.headers["x-user"] = "ann"
        assert ask(site, model="large", params={"n": 2}).status_code in {200, 202}
        (generation,) = spool.status(CHAT).generations
    ((tenant, chat_id, user, asked),) = seen
    assert (tenant, chat_id, user) == ("default", CHAT, "ann")
    assert (asked.model, asked.params, asked.messages[0].content) == ("large", {"n": 2}, "hello")
    assert generation.owner == "ann"
    with spool.produce(CHAT, generation.generation_id) as out:
        assert (out.request.model, out.request.params) == ("small", {"tools": ["mine"]})
        assert [message["role"] for message in out.request.messages] == ["system", "user"]


@BOTH
def test_a_hook_that_refuses_says_why(redis_url: str, client: Redis, ask: Ask) -> None:
    """Its own text with 422, or whatever status its HTTPException has; nothing is written."""
    refusals = {422: Refused("not on a Sunday"), 402: HTTPException(402, "not on a Sunday")}
    for status, refusal in refusals.items():

        def refuse(*_: object, why: Exception = refusal) -> AskedGeneration:
            raise why

        with serve_web_app(redis_url, admit=refuse) as site:
            document = problem(ask(site))
        assert (document["status"], document["detail"]) == (status, "not on a Sunday")
    assert list_keys(client) == []


@BOTH
def test_a_hook_that_forgets_to_return_is_the_servers_fault(redis_url: str, client: Redis, ask: Ask) -> None:
    """500, not an empty generation."""
    with serve_web_app(redis_url, admit=lambda *_: None) as site:  # type: ignore[arg-type,return-value]
        assert ask(site).status_code == 500
    assert list_keys(client) == []


def test_a_hook_may_go_on_from_the_defaults(redis_url: str) -> None:
    """What they refuse stays refused, and what the app adds is not."""
    safe = SafeAdmission(beside=True)

    def admit(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:
        return replace(safe(request, tenant, chat_id, asked), model="mine").with_system("Be kind.")

    with serve_web_app(redis_url, admit=admit) as site:
        assert ask_json(site, on_active="allow").status_code == 202
        assert ask_json(site, on_active="allow", params={"tools": []}).status_code == 422


def test_a_repeated_request_meets_the_same_hook(redis_url: str) -> None:
    """What the hook adds is part of the request: repeated, it is the same generation."""

    def admit(_request: Request, _tenant: str, _chat_id: str, asked: AskedGeneration) -> AskedGeneration:
        return asked.with_system("Be kind.")

    with serve_web_app(redis_url, admit=admit) as site:
        first, again = (ask_json(site, request_id="r").json() for _ in range(2))
    assert first == again


@BOTH
def test_a_chat_with_too_many_active_generations_is_429(redis_url: str, spool: Spool, client: Redis, ask: Ask) -> None:
    """With Retry-After; the document says which limit it is."""
    with serve_web_app(redis_url, max_active=2) as site:
        for _ in range(2):
            generation = spool.enqueue(CHAT, "x", on_active="allow")
            client.hset(
                KEYS.gen(generation.generation_id), mapping={"status": "running", "lease": 2**52, "lease_ms": 2**52}
            )
        reply = ask(site, **({"on_active": "allow"} if ask is ask_json else {}))
    document = problem(reply)
    assert (document["status"], document["limit"], reply.headers["retry-after"]) == (429, "active", "1")


def test_a_busy_chat_names_five_generations(redis_url: str, spool: Spool) -> None:
    """And says how many there are: the document stays small however many these are."""
    with serve_web_app(redis_url) as site:
        ids = [spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(30)]
        reply = ask_json(site)
    document = problem(reply)
    assert (document["status"], document["active"], document["count"]) == (409, ids[:5], 30)
    assert len(reply.content) < 1000


def test_the_documented_hook_works(redis_url: str, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented example: by user it picks the model, adds a system message, and refuses strangers."""
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", redis_url)
    page = PROJECT / "docs" / "how-to" / "web" / "permissions.md"
    section = page.read_text().partition("## What a user may choose")[2]
    (code,) = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    example: dict[str, Any] = {}
    exec(code, example)  # noqa: S102 - our own documentation
    with serve_app(example["app"]) as site:
        assert problem(ask_json(site))["status"] == 402
        site.client.headers["x-user"] = "ben"
        assert ask_json(site, params={"tools": []}).status_code == 422
        generation_id = ask_json(site, params={"temperature": 1}).json()["generation"]
    with spool.produce(CHAT, generation_id) as out:
        assert (out.request.model, out.request.params) == ("gpt-5-mini", {"max_tokens": 1000, "temperature": 1})
        assert "talking to ben" in out.request.messages[0]["content"]


def test_an_edit_is_a_text_to_the_hook_and_keeps_the_rest(redis_url: str) -> None:
    """What the app has asked with a question may be what a user may not send; a hook may put its own in front."""
    picture = {"type": "image_url", "image_url": {"url": "https://elsewhere.example/p.png"}}
    seen: list[AskedGeneration] = []

    def admit(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:
        seen.append(asked)
        return SafeAdmission()(request, tenant, chat_id, asked).with_system("Be kind.")

    with serve_web_app(redis_url, admit=admit) as site, spool_for(redis_url, keep_messages=True) as asking:
        first = asking.enqueue(CHAT, messages=[{"role": "user", "content": [picture], "name": "ann"}]).generation_id
        with asking.produce(CHAT, first):
            pass
        assert ask_json(site, prompt="And now?", replaces=first).status_code == 202
        (edited,) = asking.status(CHAT).active
        with asking.produce(CHAT, edited) as out:
            system, question = out.request.messages
        assert system == {"role": "system", "content": "Be kind."}
        asked = {"role": "user", "content": [{"type": "text", "text": "And now?"}, picture], "name": "ann"}
        assert question == asked
        assert (seen[0].edit, seen[0].messages[0].content) == ("And now?", "And now?")
        # Messages are what is asked, as they are.
        assert (
            ask_json(site, prompt=None, messages=[{"role": "user", "content": "x"}], replaces=first).status_code == 202
        )
        assert seen[1].edit is None
        # A hook that says otherwise what is asked, has said it.
        more = replace(seen[0], messages=(*seen[1].messages, *seen[0].messages))
        assert more.edit is None
