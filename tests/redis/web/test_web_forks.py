"""A chat is forked over HTTP by whoever may read it and ask in the new one."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from support.web.web_server import Site, problem, serve_web_app

from chunkspool import Spool
from chunkspool.errors import ChatExists, CursorAhead, CursorExpired, InvalidCursor
from chunkspool.problems import problem_of
from chunkspool.web import Action, GrantedUntil

ROUTE = "/v1/chats/source/fork"


@pytest.fixture
def source(spool: Spool) -> Spool:
    """Give a spool with a chat that was answered."""
    made = spool.enqueue("source", "hello", keep_messages=True)
    with spool.produce("source", made.generation_id) as out:
        out.text("hi")
    return spool


def test_a_fork_is_a_chat_like_any(source: Spool, site: Site) -> None:
    """Its reply says where it is; the links lead there."""
    reply = site.client.post(ROUTE, json={"to": "fork", "at": 4})
    assert reply.status_code == 201
    made = reply.json()
    links = made.pop("links")
    snapshot = source.snapshot("fork")
    assert made == {"chat_id": "fork", "seq": 5, "cursor": snapshot.cursor}
    assert site.client.get(links["chat"]).json()["answers"][0]["state"] == "stopped"
    with site.open_stream(links["events"]) as stream:
        events = stream.read_to_end().events
    assert [(event.seq, event.data.encode()) for event in events] == [(one.seq, one.raw) for one in source.read("fork")]


def test_a_cursor_says_where(source: Spool, site: Site) -> None:
    """As text, as it comes with each event; without one, all of the chat is forked."""
    cursor = source.read("source")[1].cursor
    assert site.client.post(ROUTE, json={"to": "one", "at": cursor}).json()["seq"] == 3
    assert site.client.post(ROUTE, json={"to": "two"}).json()["seq"] == 5


def test_what_cannot_be_forked_is_told(source: Spool, site: Site) -> None:
    """Each with its own problem, and nothing is made."""
    source.fork("source", to="taken")
    for body, error in (
        ({"to": "fork", "at": 99}, CursorAhead(99, 5)),
        ({"to": "fork", "at": "x"}, InvalidCursor("x")),
        ({"to": "taken"}, ChatExists("taken")),
        ({"to": "fork", "at": "2.000000000000-1"}, CursorExpired(2, 1, 5)),
    ):
        told = problem(site.client.post(ROUTE, json=body))
        assert told == problem_of(error).document()
    for wrong in ({}, {"to": ""}, {"to": "a b"}, {"to": "fork", "at": 0}, {"to": "fork", "more": 1}, {"to": "source"}):
        assert site.client.post(ROUTE, json=wrong).status_code == 422
    assert site.client.post("/v1/chats/none/fork", json={"to": "fork"}).status_code == 404
    assert {one.chat_id for one in source.chats().chats} == {"source", "taken"}


@pytest.mark.parametrize(
    ("may", "status"),
    [
        ({("source", "read"), ("fork", "ask")}, 201),
        ({("source", "read"), ("fork", "read")}, 403),
        ({("source", "read"), ("source", "ask")}, 403),
        ({("source", "ask"), ("fork", "ask"), ("fork", "read")}, 403),
        (set[Any](), 403),
    ],
)
def test_both_chats_are_asked_for(source: Spool, redis_url: str, may: set[tuple[str, str]], status: int) -> None:
    """Reading the one and asking in the other; the fork is theirs who may ask."""

    def authorize(_request: Request, _tenant: str, chat_id: str, action: Action) -> bool | GrantedUntil:
        return (chat_id, action) in may and GrantedUntil(owner=f"{action}er")

    with serve_web_app(redis_url, authorize=authorize) as site:
        assert site.client.post(ROUTE, json={"to": "fork"}).status_code == status
    assert [one.chat_id for one in source.chats("asker").chats] == (["fork"] if status == 201 else [])
    assert [one.chat_id for one in source.chats("reader").chats] == []
