"""Event streams of an owner and of a chat are counted in all processes: exact under races, and never stuck."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from redis import Redis
from starlette.requests import Request
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.web_server import Site, serve_web_app

from chunkspool import Spool
from chunkspool.errors import InvalidId, LimitExceeded
from chunkspool.store.keys import TenantKeys
from chunkspool.store.schedule import hash_of
from chunkspool.store.streams import HeldStreams, StreamLimit
from chunkspool.web import Action, GrantedUntil, SignedTokens, Verdict

SECRET = "a secret of more than thirty-two bytes"
FOLLOW = f"/v1/chats/{CHAT}/events?follow=true"


def key_of(limit: StreamLimit, name: str) -> str:
    """Return where the streams of a chat or an owner stand."""
    return TenantKeys("default").held_streams(limit, hash_of("default", name))


def held(client: Redis, key: str) -> int:
    """Return how many streams are noted there."""
    return sum(int(value.split()[0]) for value in client.hvals(key))


def by_header(request: Request, _tenant: str, _chat_id: str, _action: Action) -> Verdict:
    """Let the caller say who they are."""
    return GrantedUntil(owner=request.headers["x-user"])


def follow(site: Site, stack: ExitStack, path: str = FOLLOW, **headers: str) -> httpx.Response:
    """Open a stream that stays open until the stack is left; return its response."""
    response = stack.enter_context(site.client.stream("GET", path, headers=headers))
    if response.status_code != 200:
        response.read()
    return response


def limit_of(response: httpx.Response) -> str:
    """Return the limit that was met."""
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    return str(response.json()["limit"])


def test_streams_of_a_chat_are_counted_in_all_processes(
    site: Site, redis_url: str, spool: Spool, client: Redis
) -> None:
    """One on each of two servers: the third is refused by both, other chats are as before."""
    spool.set_policy(chat_streams=2)
    for name in (CHAT, "other"):
        spool.enqueue(name, "x")
    with serve_web_app(redis_url, heartbeat=0.2) as other, ExitStack() as stack:
        first = ExitStack()
        assert follow(site, first).status_code == follow(other, stack).status_code == 200
        for server in (site, other):
            assert limit_of(follow(server, stack)) == "chat_streams"
        assert follow(site, stack, "/v1/chats/other/events?follow=true").status_code == 200
        first.close()
        # Others hear of it within a second or so, not only when all is told again.
        eventually(lambda: held(client, key_of("chat_streams", CHAT)) == 1, 5)
        assert follow(other, stack).status_code == 200


def test_streams_of_an_owner_are_counted_over_chats_and_processes(redis_url: str, spool: Spool, client: Redis) -> None:
    """Whoever opens tab after tab leaves room for their colleagues."""
    spool.set_policy(owner_streams=2)
    for n in range(3):
        spool.enqueue(f"chat-{n}", "x")
    paths = [f"/v1/chats/chat-{n}/events?follow=true" for n in range(3)]
    with (
        serve_web_app(redis_url, by_header, heartbeat=0.2) as site,
        serve_web_app(redis_url, by_header, heartbeat=0.2) as other,
        ExitStack() as stack,
    ):
        assert follow(site, stack, paths[0], **{"x-user": "me"}).status_code == 200
        assert follow(other, stack, paths[1], **{"x-user": "me"}).status_code == 200
        assert limit_of(follow(site, stack, paths[2], **{"x-user": "me"})) == "owner_streams"
        assert follow(site, stack, paths[2], **{"x-user": "you"}).status_code == 200
        assert held(client, key_of("owner_streams", "me")) == 2
    eventually(lambda: held(client, key_of("owner_streams", "me")) == 0)


@pytest.mark.parametrize("limit", ["streams", "owner_streams", "chat_streams"])
def test_of_many_that_come_at_once_as_many_get_in_as_may(
    redis_url: str, spool: Spool, client: Redis, limit: str
) -> None:
    """Thirty on two servers; a refused one is counted nowhere."""
    spool.set_policy(**{limit: 7})
    spool.enqueue(CHAT, "x")
    with (
        serve_web_app(redis_url, by_header, heartbeat=0.2) as site,
        serve_web_app(redis_url, by_header, heartbeat=0.2) as other,
        ThreadPoolExecutor(30) as pool,
        ExitStack() as stack,
    ):
        for server in (site, other):  # FastAPI cannot stand first requests in two threads at once
            assert server.client.get(f"{FOLLOW}&after=x", headers={"x-user": "me"}).status_code == 400
        opened = list(pool.map(lambda n: follow((site, other)[n % 2], stack, **{"x-user": "me"}), range(30)))
        assert sum(one.status_code == 200 for one in opened) == 7
        assert {limit_of(one) for one in opened if one.status_code != 200} == {limit}
        eventually(lambda: held(client, TenantKeys("default").streams) == 7)


def test_a_signed_token_says_whose_it_is(redis_url: str, spool: Spool, client: Redis) -> None:
    """Its owner's streams are counted, and what is asked for with it is the owner's."""
    tokens = SignedTokens(SECRET)
    token = tokens.issue("*", ["ask", "read"], owner="me")
    headers = {"authorization": f"Bearer {token}"}
    with serve_web_app(redis_url, tokens, heartbeat=0.2) as site, ExitStack() as stack:
        asked = site.client.post(f"/v1/chats/{CHAT}/generations", json={"prompt": "x"}, headers=headers)
        assert asked.status_code == 202
        assert spool.status(CHAT).generations[0].owner == "me"
        assert follow(site, stack, **headers).status_code == 200
        assert held(client, key_of("owner_streams", "me")) == 1
        nobody = {"authorization": f"Bearer {tokens.issue('*', ['read'])}"}
        assert follow(site, stack, **nobody).status_code == 200
        assert held(client, key_of("owner_streams", "me")) == 1


def test_who_may_is_not_whose_it_is() -> None:
    """An owner that is no id is an error where it is said."""
    with pytest.raises(InvalidId, match="owner"):
        GrantedUntil(owner="no id")
    with pytest.raises(InvalidId, match="owner"):
        SignedTokens(SECRET).issue("*", owner="no id")


def test_what_comes_late_changes_nothing(spool: Spool, client: Redis) -> None:
    """Two calls of one process overtake each other: the newer number stands, and counts."""
    spool.set_policy(chat_streams=3)

    def hold(process: str, number: int, version: int, *, refuses: bool = True) -> None:
        spool.hold_streams(process, [HeldStreams("chat_streams", CHAT, number)], version=version, refuses=refuses)

    hold("a", 2, 2)
    hold("a", 1, 1)
    assert held(client, key_of("chat_streams", CHAT)) == 2
    hold("b", 1, 1)
    for process, version in (("a", 1), ("b", 2)):
        with pytest.raises(LimitExceeded):
            hold(process, 3, version)
    hold("a", 0, 3, refuses=False)
    hold("a", 5, 2, refuses=False)
    assert held(client, key_of("chat_streams", CHAT)) == 1
    assert 0 < client.pttl(key_of("chat_streams", CHAT)) <= 30_000


def test_what_a_killed_process_held_before_the_clock_was_set_back_counts_no_more(spool: Spool, client: Redis) -> None:
    """Its time lies an hour and a half ahead then, longer than any is held."""
    spool.set_policy(chat_streams=1)
    held_by = [HeldStreams("chat_streams", CHAT, 1)]
    spool.hold_streams("killed", held_by, version=1, refuses=True)
    with pytest.raises(LimitExceeded):
        spool.hold_streams("another", held_by, version=1, refuses=True)
    key = key_of("chat_streams", CHAT)
    number, ends, version = (client.hget(key, "killed") or b"").decode().split()
    client.hset(key, "killed", f"{number} {int(ends) + 5_400_000} {version}")
    spool.hold_streams("another", held_by, version=2, refuses=True)
    assert client.hkeys(key) == [b"another"]


def test_no_key_names_the_chat_or_the_owner(redis_url: str, spool: Spool, client: Redis) -> None:
    """An erase leaves nothing, also while streams are open."""
    spool.enqueue("secret", "x", owner="somebody")
    with serve_web_app(redis_url, by_header, heartbeat=0.2) as site, ExitStack() as stack:
        path = "/v1/chats/secret/events?follow=true"
        assert follow(site, stack, path, **{"x-user": "somebody"}).status_code == 200
        spool.erase("secret")
        names = b" ".join(client.scan_iter(match="cs:*"))
        assert b"secret" not in names
        assert b"somebody" not in names
