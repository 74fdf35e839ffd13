"""A chat written by an earlier version of the code stays readable, with every type of event."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from support.chats.spools import spool_for
from support.servers.contents import find_keys_containing
from support.web.web_server import serve_web_app

from chunkspool import Spool, conversation, fold
from chunkspool.cli.conversation_lines import Telling
from chunkspool.events import decode
from chunkspool.states import ENDED

WRITTEN_MS = 1_795_798_192_753


def to_now(sample: str) -> str:
    """Move every time in it, as if it had been written now: after its 24 hours a log is no longer kept."""
    elapsed = time.time_ns() // 1_000_000 - WRITTEN_MS
    return re.sub(r"\b1795\d{9}\b", lambda at: str(int(at[0]) + elapsed), sample)


SAMPLE = json.loads(to_now(Path(__file__).with_name("log_of_0_1.json").read_text("utf-8")))
"""`keys`: name → type and value, written on 27 November 2026, before the names in the code were changed."""
CHAT, TENANT = SAMPLE["chat"], SAMPLE["tenant"]
(LOG,) = [key["value"] for name, key in SAMPLE["keys"].items() if name.endswith(":log")]
STORED = [(int(entry_id.partition("-")[0]), fields["e"].encode()) for entry_id, fields in LOG]
LAST = len(STORED)


def restore(client: Redis, name: str, kind: str, value: Any) -> None:
    """Write one key as it was."""
    match kind:
        case "string":
            client.set(name, value)
        case "hash":
            client.hset(name, mapping=value)
        case "zset":
            client.zadd(name, dict(value))
        case "stream":
            for entry_id, fields in value:
                client.xadd(name, fields, id=entry_id)
    client.expire(name, 600)


@pytest.fixture
def old_spool(redis_url: str, client: Redis) -> Iterator[Spool]:
    """Provide a spool on a server that holds the sample."""
    for name, key in SAMPLE["keys"].items():
        restore(client, name, key["type"], key["value"])
    with spool_for(redis_url, tenant=TENANT) as spool:
        yield spool


def test_an_old_log_is_replayed_from_every_cursor(old_spool: Spool) -> None:
    """Every event arrives byte for byte, including one of an unknown type."""
    assert {json.loads(raw)["type"] for _, raw in STORED} >= {"tool.result", "data", "usage", "image.delta"}
    for cut in range(LAST + 1):
        with old_spool.subscribe(CHAT, cut) as entries:
            assert [(entry.seq, entry.raw) for entry in entries] == STORED[cut:]
    for entry in old_spool.read(CHAT):
        assert entry.event.generation_id == json.loads(entry.raw)["generation"]


def test_an_old_chat_is_shown_as_it_was(old_spool: Spool) -> None:
    """The answers, how they ended, and how far its reader has read are unchanged."""
    shown = {"generation": "generation_id"}
    for answer, was in zip(old_spool.snapshot(CHAT).answers, SAMPLE["answers"], strict=True):
        assert {name: getattr(answer, shown.get(name, name)) for name in was} == was
    status = old_spool.status(CHAT)
    assert (status.first, status.last, status.active) == (1, LAST, ())
    assert {generation.state for generation in status.generations} == ENDED
    assert old_spool.last_read(CHAT, "ada") == 7


def test_an_old_chat_is_a_conversation_without_questions(old_spool: Spool) -> None:
    """Every answer counts, in order, and none is a version of another; `show` tells them, too."""
    answers = old_spool.snapshot(CHAT).answers
    assert fold(decode(raw, seq) for seq, raw in STORED) == answers
    turns = old_spool.snapshot(CHAT).conversation
    assert turns == conversation(answers)
    assert [(turn.messages, turn.answer, turn.versions) for turn in turns] == [
        ((), answer, (answer.generation_id,)) for answer in answers
    ]
    telling = Telling(CHAT)
    for entry in old_spool.read(CHAT):
        telling.add(entry)
    document = json.loads(telling.document())
    assert document["messages"] == []
    assert [one["text"] for one in document["answers"]] == [answer.text for answer in answers]
    assert sum("  assistant: " in line for line in telling.lines()) == len(answers)


def test_an_old_chat_goes_on_as_a_conversation(old_spool: Spool, client: Redis) -> None:
    """Its next question is in the log; an answer of the old ones gets another version; a fork has what was there."""
    old = [answer.generation_id for answer in old_spool.snapshot(CHAT).answers]
    made = old_spool.fork(CHAT, to="fork")
    assert made.seq == LAST
    assert [(entry.seq, entry.raw) for entry in old_spool.read("fork")] == STORED
    question = old_spool.enqueue(CHAT, "And on.", keep_messages=True).generation_id
    old_spool.stop(CHAT)
    version = old_spool.enqueue(CHAT, "Better.", replaces=old[-1], keep_messages=True).generation_id
    turns = old_spool.snapshot(CHAT).conversation
    assert [turn.answer.generation_id for turn in turns] == [*old[:-1], version]
    assert turns[-1].versions == (old[-1], version)
    assert [message.content for message in turns[-1].messages] == ["Better."]
    assert question not in {turn.answer.generation_id for turn in turns}
    for chat in (CHAT, "fork"):
        old_spool.erase(chat)
        assert find_keys_containing(client, f"{TENANT}/{chat}") == []


def test_an_old_chat_is_served_over_the_web(old_spool: Spool, redis_url: str) -> None:
    """The event stream and the snapshot use the same generation ids as the log."""
    with serve_web_app(redis_url, tenant=TENANT) as site:
        answers = site.client.get(f"/v1/chats/{CHAT}").json()["answers"]
        assert [answer["generation"] for answer in answers] == [answer["generation"] for answer in SAMPLE["answers"]]
        with site.open_stream(f"/v1/chats/{CHAT}/events") as stream:
            events = stream.read_to_end().events
    assert [(event.seq, event.data.encode()) for event in events] == STORED
    assert old_spool.status(CHAT).last == LAST


def test_an_old_chat_can_be_continued(old_spool: Spool, client: Redis) -> None:
    """A repeated request finds its generation, a new one continues the seqs, and an erase leaves nothing."""
    first = old_spool.enqueue(CHAT, "Tell me a story.", request_id="first")
    assert (first.generation_id, first.after) == (SAMPLE["answers"][0]["generation"], 0)
    made = old_spool.enqueue(CHAT, "And on.")
    assert made.after == LAST
    with old_spool.produce(CHAT, made.generation_id) as out:
        out.text("on")
    assert old_spool.read(CHAT, LAST)[0].seq == LAST + 1
    old_spool.erase(CHAT)
    assert find_keys_containing(client, f"{TENANT}/{CHAT}") == []
