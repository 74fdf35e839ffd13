"""The views of an AI SDK front end say what the web app's routes say, and refuse what those refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log
from support.chats.spools import spool_for
from support.web.web_server import Site

from chunkspool import Spool
from chunkspool.errors import (
    CursorAhead,
    InvalidCursor,
    InvalidId,
    InvalidInput,
    InvalidRequest,
    LimitExceeded,
    Refused,
    RequestTooLarge,
)
from chunkspool.views import AskedGeneration, UseChat, UseChatRequest, follow

MESSAGES = f"/api/chat/{CHAT}/messages"


def body(text: str = "why?", message_id: str = "m1", **fields: Any) -> dict[str, Any]:
    """Return the body that the SDK sends for a new message."""
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": CHAT, "messages": [message], "trigger": "submit-message", **fields}


def ask(spool: Spool, **fields: Any) -> str:
    """Ask, answer, and return the generation's id."""
    UseChat(spool).send(UseChatRequest.parse(body(**fields)))
    (generation_id,) = spool.status(CHAT).active
    return generation_id


def answer(spool: Spool, generation_id: str, text: str) -> None:
    """Answer it."""
    with spool.produce(CHAT, generation_id) as out:
        out.text(text)


def test_the_messages_are_those_of_the_route(spool: Spool, site: Site) -> None:
    """Of no chat, of one, and page by page, byte by byte."""
    views = UseChat(spool)
    assert views.messages(CHAT) == site.client.get(MESSAGES).content
    for number in range(4):
        answer(spool, ask(spool, text=f"question {number}", message_id=f"m{number}"), f"answer {number}")
    whole = json.loads(views.messages(CHAT))
    assert [message["role"] for message in whole["messages"]] == ["user", "assistant"]
    for query in ({}, {"sdk": "7"}, {"limit": "1"}, {"limit": "1", "before": whole["messages"][-1]["id"]}):
        assert views.messages(CHAT, **query) == site.client.get(MESSAGES, params=query).content


def test_a_message_that_is_sent_twice_is_one_generation(spool: Spool, client: Redis) -> None:
    """The messages go to the model; sent again it is the same generation, and another one replaces it."""
    once, again = ask(spool), ask(spool, ours="ignored")
    assert once == again
    other = ask(spool, text="and now?", message_id="m2")
    assert other != once
    with spool.produce(CHAT, other) as out:
        assert list(out.request.messages) == [{"role": "user", "content": "and now?"}]
    assert ending_of(read_log(client), once)["type"] == "generation.stopped"


def test_the_conversation_is_in_the_log(redis_url: str) -> None:
    """As over HTTP: an answer that is regenerated, or whose question is edited. A hook may keep it from the log."""
    with spool_for(redis_url, keep_messages=True) as spool:
        first = ask(spool)
        answer(spool, first, "because")
        second = ask(spool, trigger="regenerate-message", messageId=first)
        answer(spool, second, "of air")
        third = ask(spool, text="WHY?", messageId="m1")
        assert [one.replaces for one in spool.snapshot(CHAT).answers] == [None, first, second]
        assert [one["id"] for one in json.loads(UseChat(spool).messages(CHAT))["messages"]] == ["m1", third]
        assert spool.transcript(CHAT) is None
        mine = UseChat(spool, lambda asked: replace(asked, keep_messages=False))
        mine.send(UseChatRequest.parse(body(text="and?", message_id="m2")))
        assert spool.transcript(CHAT) is not None
        assert len(spool.snapshot(CHAT).answers[-1].asked) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'"\xff"',
        b'{"id": "\\ud800", "messages": []}',
        json.dumps({"id": CHAT}).encode(),
        json.dumps({"id": CHAT, "messages": []}).encode(),
        json.dumps({"id": CHAT, "messages": "x" * 10_000}).encode(),
        json.dumps({"id": "", "messages": [{"role": "user", "parts": []}]}).encode(),
        json.dumps({"id": CHAT, "messages": [{"role": "root", "parts": []}]}).encode(),
        json.dumps({"id": CHAT, "messages": [{"role": "user", "parts": [1]}]}).encode(),
        {"id": CHAT, "messages": [{"role": "user", "parts": [{"x" * 10_000: object()}]}]},
    ],
)
def test_a_body_that_is_none_is_refused(wrong: Any) -> None:
    """In short words, without the input."""
    with pytest.raises(InvalidRequest) as found:
        UseChatRequest.parse(wrong)
    assert len(str(found.value)) < 600


def test_what_a_user_may_not_choose_is_refused(spool: Spool) -> None:
    """As over HTTP, unless the app's own hook decides; and nothing was started."""
    for fields in ({"model": "dear"}, {"params": {"n": 2}}, {"params": {"tools": []}}):
        with pytest.raises(Refused, match=r"not allowed|may not|must|may be"):
            UseChat(spool).send(UseChatRequest.parse(body(**fields)))
    with pytest.raises(InvalidRequest):
        UseChat(spool).send(UseChatRequest.parse({**body(), "messages": [{"role": "user", "parts": []}]}))
    with pytest.raises(InvalidId):
        UseChat(spool).send(UseChatRequest.parse({**body(), "id": "no id"}))
    assert json.loads(UseChat(spool).messages(CHAT))["messages"] == []


def test_the_apps_own_hook_decides(spool: Spool) -> None:
    """What it returns is what a worker is asked."""

    def admit(asked: AskedGeneration) -> AskedGeneration:
        if asked.model == "none":
            raise Refused("not this one")
        return asked.with_system("Be kind.")

    UseChat(spool, admit).send(UseChatRequest.parse(body(model="dear")), owner="ann")
    (generation_id,) = spool.status(CHAT).active
    with spool.produce(CHAT, generation_id) as out:
        assert [message["role"] for message in out.request.messages] == ["system", "user"]
        assert out.request.model == "dear"
    with pytest.raises(Refused, match="not this one"):
        UseChat(spool, admit).send(UseChatRequest.parse(body(model="none")))


def test_limits_hold(spool: Spool) -> None:
    """Of a tenant and of an owner, who is named by the view."""
    spool.set_policy(owner_queued=1)
    UseChat(spool).send(UseChatRequest.parse(body()), owner="ann")
    with pytest.raises(LimitExceeded):
        UseChat(spool).send(UseChatRequest.parse({**body(), "id": "other"}), owner="ann")
    UseChat(spool).send(UseChatRequest.parse({**body(), "id": "other"}), owner="bob")


def test_a_body_that_is_too_large_is_refused(spool: Spool) -> None:
    """By the spool, whatever the framework let pass."""
    with pytest.raises(RequestTooLarge):
        UseChat(spool).send(UseChatRequest.parse(body(text="x" * 5_000_000)))


@pytest.mark.parametrize("number", ["5", "100", "-6", "6.0", "", "six", "\u0667", "1_0", "9" * 5000, " 6"])
def test_a_number_of_a_query_is_checked(spool: Spool, number: str) -> None:
    """A version of the SDK that there is not, and what is no number."""
    views = UseChat(spool)
    for call in (
        lambda: views.send(UseChatRequest.parse(body()), sdk=number),
        lambda: views.resume(CHAT, sdk=number),
        lambda: views.messages(CHAT, sdk=number),
    ):
        with pytest.raises(InvalidInput, match="sdk="):
            call()
    if number not in {"5", "100"}:
        with pytest.raises(InvalidInput, match="limit="):
            views.messages(CHAT, limit=number)


def test_a_page_that_is_none_is_refused(spool: Spool) -> None:
    """`before` names a message of the chat."""
    answer(spool, ask(spool), "because")
    with pytest.raises(InvalidRequest, match="before"):
        UseChat(spool).messages(CHAT, before="m9")


@pytest.mark.parametrize("cursor", ["-1", "abc", "", "1_0", "\u0663", "9" * 400, 1.5, None, True])
def test_a_cursor_that_is_none_is_refused(spool: Spool, cursor: Any) -> None:
    """It is never a 0: a client's bug would replay the whole chat."""
    spool.enqueue(CHAT, "x")
    with pytest.raises(InvalidCursor):
        follow(spool, CHAT, cursor)
    with pytest.raises(CursorAhead):
        follow(spool, CHAT, 9)
