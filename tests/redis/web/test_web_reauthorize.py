"""The hook is asked again for an open stream, and what it then says holds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from redis import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from support.waiting import eventually
from support.web.web_server import SseStream, serve_web_app

from chunkspool.web import AccessDenied, Action, GrantedUntil, Verdict

HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


def refuse() -> bool:
    """Refuse in the simplest way."""
    return False


def deny() -> bool:
    """Say that the sender is unknown."""
    raise AccessDenied("you were logged out")


def end() -> GrantedUntil:
    """Name a time that has passed."""
    return GrantedUntil(time.time() - 1)


def answer() -> bool:
    """Choose a status."""
    raise HTTPException(402, "pay first")


def fail() -> bool:
    """Have a bug."""
    raise ZeroDivisionError


def status_at_the_end(stream: SseStream) -> int:
    """Read to the end; return the status of the problem that ended the stream."""
    last = stream.read_to_end().events[-1]
    assert last.name == "problem", stream.events
    return int(json.loads(last.data)["status"])


def errors_at_the_end(stream: SseStream) -> list[str]:
    """Read a stream of `useChat` to the end; return the errors in it."""
    parts = [json.loads(event.data) for event in stream.read_to_end().events if event.data != "[DONE]"]
    return [part["errorText"] for part in parts if part["type"] == "error"]


@pytest.mark.parametrize(
    ("later", "status"),
    [(refuse, 403), (deny, 401), (end, 401), (answer, 402), (fail, 500)],
    ids=["refuse", "deny", "end", "answer", "fail"],  # a function's own has its address
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_stream_ends_when_the_hook_refuses_later(
    redis_url: str, client: Redis, later: Callable[[], Verdict], status: int, is_async: bool
) -> None:
    """In every dialect, also for a hook that returns a bare bool; nothing stays subscribed."""
    verdicts: list[Callable[[], Verdict]] = [lambda: True]

    def ask(*_: object) -> Verdict:
        return verdicts[-1]()

    async def ask_slowly(*_: object) -> Verdict:
        await asyncio.sleep(0.01)
        return verdicts[-1]()

    with serve_web_app(redis_url, ask_slowly if is_async else ask, reauthorize=0.2) as site:
        site.ask("c1")
        with (
            site.open_stream("/v1/chats/c1/events?follow=true") as native,
            site.open_stream("/api/chat", "POST", json={"id": "c2", "messages": HISTORY}) as sent,
            site.open_stream("/api/chat/c2/stream") as resumed,
        ):
            native.read_until(lambda s: s.seqs == [1])
            sent.read()
            resumed.read()
            verdicts.append(later)
            assert status_at_the_end(native) == status
            assert all(len(errors_at_the_end(stream)) == 1 for stream in (sent, resumed))
        eventually(lambda: not client.pubsub_channels("cs:{default/*"))


def test_the_hook_is_asked_for_the_same_request(redis_url: str) -> None:
    """With its headers, parameters, tenant and chat; the question is whether it may read, even where it asked."""
    asked: list[tuple[str, str, Action, str | None, object]] = []

    def note(request: Request, tenant: str, chat_id: str, action: Action) -> bool:
        asked.append((tenant, chat_id, action, request.headers.get("x-name"), request.path_params.get("chat_id")))
        return True

    with serve_web_app(redis_url, note, reauthorize=0.1) as site:
        for method, path, body, in_path in (
            ("POST", "/api/chat", {"id": "c1", "messages": HISTORY}, None),
            (
                "POST",
                "/api/chat",
                {"id": "c1", "messages": [{**HISTORY[0], "id": "m2"}]},
                None,
            ),
            ("GET", "/v1/chats/c1/events", None, "c1"),
        ):
            with site.open_stream(path, method, json=body, headers={"x-name": "me"}):
                asked.clear()
                eventually(lambda: len(asked) >= 3)
                assert set(asked) == {("default", "c1", "read", "me", in_path)}


def test_a_permission_may_be_prolonged(redis_url: str) -> None:
    """The newest answer says until when: a stream outlives the first."""
    began = time.time()
    with serve_web_app(redis_url, lambda *_: GrantedUntil(time.time() + 1), reauthorize=0.2, heartbeat=0.2) as site:
        site.ask("c1")
        with site.open_stream("/v1/chats/c1/events") as stream:
            stream.read_until(lambda _: time.time() > began + 2)


def test_a_stream_ends_after_its_time(redis_url: str, client: Redis) -> None:
    """Whatever a server tells of its clients: a native stream then ends cleanly, and its client resumes."""
    with serve_web_app(redis_url, stream_deadline=0.5) as site:
        site.ask("c1")
        with site.open_stream("/v1/chats/c1/events") as stream:
            assert stream.read_to_end().seqs == [1]
        eventually(lambda: not client.pubsub_channels("cs:{default/*"))
