"""The JSON routes: ask, stop, snapshot, erase, health; and their answers to bad input (promises 5, 10, 11)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log
from support.servers.contents import list_keys
from support.web.web_server import Site, problem, serve_web_app

from chunkspool import Spool

ASK = f"/v1/chats/{CHAT}/generations"
DEEP = 5_000
BAD_CHATS = ("a%7Bb", "a%20b", "%00", "x" * 129, "%C3%BC", "a%2Fb", "%0A", "..%2f..", ".x")
BAD_BODIES: list[tuple[Any, str]] = [
    ({}, "neither prompt nor messages"),
    ({"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "both"),
    ({"prompt": ""}, "empty"),
    ({"prompt": "  \n"}, "blank"),
    ({"prompt": 7}, "a number for the prompt"),
    ({"prompt": "x", "colour": "red"}, "an unknown field"),
    ({"prompt": "x", "request_id": "a{b"}, "an invalid request id"),
    ({"prompt": "x", "on_active": "wait"}, "an unknown on_active"),
    ({"prompt": "x", "model": ""}, "an empty model"),
    ({"prompt": "x", "params": []}, "params that are not an object"),
    ({"messages": []}, "no messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "an unknown role"),
    ({"messages": "x"}, "a string for messages"),
    ([], "a list"),
    ("x", "a string"),
    (None, "null"),
]
RAW_BODIES = (b"", b"{", b"\xff", b'{"prompt": "\\ud800"}', b"[" * DEEP, b'{"prompt":"x","params":' + b'{"a":' * DEEP)


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    """Give a running app, open to everybody, with small limits."""
    with serve_web_app(redis_url, max_body_bytes=4096, max_request_bytes=2048, answer_timeout=60) as running:
        yield running


def test_ask_returns_id_cursor_and_links(site: Site, client: Redis) -> None:
    """202 with the generation's id, the cursor before its first event, and links that work."""
    made = site.ask(CHAT, model="m", params={"temperature": 0})
    assert read_log(client)[made["after"]].event["generation"] == made["generation"]
    assert made["chat_id"] == CHAT
    with site.open_stream(made["links"]["events"]) as stream:
        stream.read_until(lambda s: s.seqs == [1])
    assert site.client.get(made["links"]["chat"]).status_code == 200
    assert site.client.post(made["links"]["stop"]).status_code == 202


def test_a_worker_gets_what_was_asked(site: Site, spool: Spool) -> None:
    """Messages with extra fields, model and params arrive unchanged."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "ü"}], "name": "Ann"}]
    reply = site.client.post(ASK, json={"messages": messages, "model": "m", "params": {"n": [1, None]}})
    with spool.produce(CHAT, reply.json()["generation"]) as out:
        assert list(out.request.messages) == messages
        assert (out.request.model, out.request.params) == ("m", {"n": [1, None]})


def test_the_same_request_again_is_the_same_generation(site: Site) -> None:
    """By request_id or by Idempotency-Key, quoted or not: a retry does not start a second generation."""
    first = site.ask(CHAT, request_id="r1")
    for headers, body in (({"Idempotency-Key": "r1"}, {}), ({"Idempotency-Key": '"r1"'}, {"request_id": "r1"})):
        again = site.client.post(ASK, json={"prompt": "hello", **body}, headers=headers)
        assert (again.status_code, again.json()) == (202, first)
    ended = site.client.post(f"/v1/chats/{CHAT}/stop")
    assert ended.status_code == 202
    assert site.ask(CHAT, request_id="r1") == first
    differs = site.client.post(ASK, json={"prompt": "x", "request_id": "r1"}, headers={"Idempotency-Key": "r2"})
    assert differs.status_code == 400
    assert "differ" in problem(differs)["detail"]


@pytest.mark.parametrize(
    "other", [{"prompt": "x"}, {"prompt": "hello", "model": "m"}, {"prompt": "hello", "params": {"n": 1}}], ids=str
)
def test_the_same_key_with_another_request_is_422(site: Site, other: dict[str, object]) -> None:
    """While it is queued and after its end; nothing is started, and the document names the first generation."""
    first = site.ask(CHAT, request_id="r1")
    assert site.ask(CHAT, request_id="r1", prompt=None, messages=[{"role": "user", "content": "hello"}]) == first
    for _ in range(2):
        reply = site.client.post(ASK, json=other, headers={"Idempotency-Key": "r1"})
        document = problem(reply)
        assert (reply.status_code, document["generation"]) == (422, first["generation"])
        assert document["type"].endswith(":request-id-reused")
        site.client.post(f"/v1/chats/{CHAT}/stop")
    assert len(site.client.get(f"/v1/chats/{CHAT}").json()["answers"]) == 1


def test_a_busy_chat_is_409_and_names_the_active_generation(site: Site) -> None:
    """With `queue`, `allow` or `replace`, the request is accepted; who waits is told how many come before."""
    first = site.ask(CHAT)
    reply = site.client.post(ASK, json={"prompt": "x"})
    assert reply.status_code == 409
    assert problem(reply)["active"] == [first["generation"]]
    waits = site.ask(CHAT, on_active="queue")
    assert waits["after"] == 1
    told = site.client.get(f"/v1/chats/{CHAT}").json()["waiting"]
    assert told == [{"generation": waits["generation"], "ahead": 1, "wait": None}]
    assert site.ask(CHAT, on_active="allow")["after"] == 2
    assert site.ask(CHAT, on_active="replace")["after"] == 6


def test_stop_may_be_repeated(site: Site, client: Redis) -> None:
    """202 with the outcome for each generation; without a body it stops all that are active."""
    made = site.ask(CHAT)
    asked = {"generation": made["generation"], "reason": "enough"}
    outcomes = [site.client.post(f"/v1/chats/{CHAT}/stop", json=asked).json()["stops"] for _ in range(2)]
    assert [[stop["outcome"] for stop in stops] for stops in outcomes] == [["stopped"], ["ended"]]
    reply = site.client.post(f"/v1/chats/{CHAT}/stop")
    assert (reply.status_code, reply.json()) == (202, {"stops": []})
    assert read_log(client)[-1].event["reason"] == "enough"


def test_the_snapshot_has_the_answers_and_the_seq_to_follow_after(site: Site, spool: Spool) -> None:
    """The answers with their states, the active generations, and the last seq they include."""
    made = site.ask(CHAT)
    with spool.produce(CHAT, made["generation"]) as out:
        out.text("hello there")
        out.tool_call("1", "clock", "{}")
        out.data("colour", ["red"])
        out.usage(1, 2)
    site.ask(CHAT)
    reply = site.client.get(f"/v1/chats/{CHAT}")
    seen = reply.json()
    assert (seen["seq"], len(seen["active"]), reply.headers["cache-control"]) == (8, 1, "no-store")
    first, second = seen["answers"]
    assert (first["text"], first["state"], second["state"]) == ("hello there", "completed", "queued")
    assert (first["data"], first["usage"]["output_tokens"]) == ([["colour", ["red"]]], 2)


def test_a_missing_chat_may_be_no_error(site: Site, spool: Spool) -> None:
    """With `missing_ok` the snapshot is a 204: a browser reports every 404 as an error of the page."""
    assert site.client.get(f"/v1/chats/{CHAT}").status_code == 404
    missing = site.client.get(f"/v1/chats/{CHAT}?missing_ok=true")
    assert (missing.status_code, missing.content) == (204, b"")
    site.ask(CHAT)
    snapshot = site.client.get(f"/v1/chats/{CHAT}?missing_ok=true").json()
    with site.open_stream(f"/v1/chats/{CHAT}/events") as stream:
        stream.read_until(lambda s: bool(s.events))
    assert snapshot["cursor"] == stream.events[0].id
    spool.erase(CHAT)
    for _ in range(2):
        spool.stop(CHAT, site.ask(CHAT)["generation"])
    changed = site.client.get(f"/v1/chats/{CHAT}/events", params={"after": snapshot["cursor"]})
    assert problem(changed)["type"].endswith(("cursor-expired", "cursor-ahead"))


def test_erase_leaves_nothing_and_may_be_repeated(site: Site, client: Redis) -> None:
    """204, and afterwards no key is left and every route answers 404."""
    site.ask(CHAT)
    for _ in range(2):
        assert site.client.delete(f"/v1/chats/{CHAT}").status_code == 204
    assert not client.exists(KEYS.log, KEYS.seq, KEYS.head, KEYS.gens)
    for reply in (site.client.get(f"/v1/chats/{CHAT}"), site.client.post(f"/v1/chats/{CHAT}/stop")):
        assert reply.status_code == 404
        assert problem(reply)["type"].endswith("chat-not-found")


def test_bad_bodies_are_rejected_and_write_nothing(site: Site, client: Redis) -> None:
    """Wrong types, unknown fields, both or neither of prompt and messages: 422 with an explanation."""
    for body, why in BAD_BODIES:
        reply = site.client.post(ASK, json=body)
        assert reply.status_code == 422, why
        problem(reply)
    assert not list_keys(client)


def test_bodies_that_are_not_json_are_rejected(site: Site, client: Redis) -> None:
    """No body, half an object, invalid UTF-8, a lone surrogate, extreme nesting: a 4xx, never a 500."""
    for raw in RAW_BODIES:
        for content in (raw, raw[:4000]):
            reply = site.client.post(ASK, content=content, headers={"content-type": "application/json"})
            assert reply.status_code in {400, 413, 422}, raw[:30]
            problem(reply)
    assert not list_keys(client)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_of_another_type_is_not_taken(site: Site, client: Redis, kind: str, in_chunks: bool) -> None:
    """415, in every route that takes JSON: such types are what a page of another origin may send without asking."""
    made = site.ask(CHAT)["generation"]
    chat = f"/v1/chats/{CHAT}"
    bodies = {ASK: b'{"prompt":"x"}', f"{chat}/stop": b"{}", "/api/chat": b"{}", f"/api/chat/{CHAT}/stop": b"{}"}
    for path, body in bodies.items():
        content = iter([body[:1], body[1:]]) if in_chunks else body
        reply = site.client.post(path, content=content, headers={"content-type": kind} if kind else {})
        assert reply.status_code == 415, path
        assert problem(reply)["type"].endswith("unsupported-media-type")
    assert client.hget(KEYS.gen(made), "status") == b"queued"


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.x+json"])
def test_every_name_of_json_is_taken(site: Site, kind: str) -> None:
    """Also with parameters and in capitals; without a body no type is needed."""
    asked = site.client.post(ASK, content=b'{"prompt":"x"}', headers={"content-type": kind})
    assert asked.status_code == 202
    for path in (f"/v1/chats/{CHAT}/stop", f"/api/chat/{CHAT}/stop"):
        assert site.client.post(path).status_code == 202


def test_numbers_outside_json_are_rejected_or_harmless(site: Site, spool: Spool) -> None:
    """NaN in params must not store a request that no worker can read."""
    headers = {"content-type": "application/json"}
    reply = site.client.post(ASK, content=b'{"prompt":"x","params":{"a":NaN,"b":1e999}}', headers=headers)
    assert reply.status_code in {202, 400, 422}
    if reply.status_code == 202:
        with spool.produce(CHAT, reply.json()["generation"]) as out:
            assert set(out.request.params) == {"a", "b"}


def test_a_body_that_is_too_large_is_413(site: Site, client: Redis) -> None:
    """By Content-Length, in chunks without it, and by the size that the request would have in Redis."""
    large = b'{"prompt":"' + b"x" * 5000 + b'"}'
    headers = {"content-type": "application/json"}
    announced = site.client.post(ASK, content=large, headers=headers)
    in_chunks = site.client.post(
        ASK, content=(large[i : i + 1000] for i in range(0, len(large), 1000)), headers=headers
    )
    encoded = site.client.post(ASK, json={"prompt": "x" * 3000})
    for reply in (announced, in_chunks, encoded):
        assert reply.status_code == 413
        problem(reply)
    assert not list_keys(client)


def test_invalid_chat_ids_write_nothing(site: Site, client: Redis) -> None:
    """Braces, slashes, control characters, non-ASCII, too long: 404 or 422 from every route."""
    for chat in BAD_CHATS:
        replies = [
            site.client.post(f"/v1/chats/{chat}/generations", json={"prompt": "x"}),
            site.client.get(f"/v1/chats/{chat}/events"),
            site.client.get(f"/v1/chats/{chat}"),
            site.client.post(f"/v1/chats/{chat}/stop"),
            site.client.delete(f"/v1/chats/{chat}"),
            site.client.get(f"/api/chat/{chat}/stream"),
        ]
        for reply in replies:
            assert reply.status_code in {404, 422}
            problem(reply)
    assert not list_keys(client)


def test_unknown_routes_and_methods_are_problems_too(site: Site) -> None:
    """Every error is RFC 9457, so a client needs only one way to read errors."""
    missing = site.client.get("/v2/nothing")
    wrong = site.client.put(ASK)
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert problem(missing)["title"] == "Not Found"
    assert wrong.headers["allow"] == "POST"
    problem(wrong)


def test_unknown_generations_cannot_be_stopped(site: Site) -> None:
    """404 for an unknown id; 422 for an invalid id, a reason that is too long, or an unknown field."""
    site.ask(CHAT)
    stop = f"/v1/chats/{CHAT}/stop"
    assert problem(site.client.post(stop, json={"generation": "nobody"}))["type"].endswith("generation-not-found")
    for body in ({"generation": "a b"}, {"reason": "x" * 501}, {"now": True}):
        assert site.client.post(stop, json=body).status_code == 422


def test_many_requests_at_once_wait_for_their_turn(site: Site) -> None:
    """Two hundred requests at once, as after a deploy, exceed redis-py's connections, and all are answered."""
    site.ask(CHAT)

    async def send_all() -> list[int]:
        async with httpx.AsyncClient(
            base_url=site.url, timeout=30, limits=httpx.Limits(max_connections=None)
        ) as client:
            replies = await asyncio.gather(*(client.get(f"/v1/chats/{CHAT}") for _ in range(200)))
            return [reply.status_code for reply in replies]

    assert set(asyncio.run(send_all())) == {200}


def test_a_crowd_of_readers_comes_back_at_once(site: Site) -> None:
    """Three hundred event streams in one moment: an EventSource that is answered 503 would never try again."""
    site.ask(CHAT)

    async def follow(client: httpx.AsyncClient) -> int:
        async with client.stream("GET", f"/v1/chats/{CHAT}/events?follow=true") as reply:
            async for line in reply.aiter_lines():
                if line.startswith("id: 1."):
                    break
            return reply.status_code

    async def crowd() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=site.url, timeout=60, limits=limits) as client:
            return await asyncio.gather(*(follow(client) for _ in range(300)))

    assert set(asyncio.run(crowd())) == {200}


def test_health_and_readiness(site: Site) -> None:
    """Both need no token: they are for the monitoring of the process."""
    assert site.client.get("/healthz").json() == {"status": "ok"}
    assert site.client.get("/readyz").json() == {"status": "ok"}
