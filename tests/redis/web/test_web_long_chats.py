"""Long chats over the web: pages of a snapshot and of the messages, resumes that hold little, and honest time-outs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die
from support.web.ui_message import ClientMessage, parts_of
from support.web.web_server import Site, problem

from chunkspool import Spool
from chunkspool.events import Event, GenerationCompleted, TextDelta, ToolCallEvent
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.views import replay
from chunkspool.web.gate import RequestGate
from chunkspool.web.streaming.event_stream import ClientStream

SNAPSHOT, MESSAGES, RESUME = f"/v1/chats/{CHAT}", f"/api/chat/{CHAT}/messages", f"/api/chat/{CHAT}/stream"


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small blocks, so that a short chat has many."""
    monkeypatch.setattr("chunkspool.store.blocks.BLOCK_EVENTS", 20)
    monkeypatch.setattr("chunkspool.operations.digest_making.FIRST_PAGE", 10)
    monkeypatch.setattr("chunkspool.operations.digest_making.MOST_ENTRIES", 10)
    monkeypatch.setattr("chunkspool.operations.digests.PART_BYTES", 1_000)


def texts(generation_id: str, count: int, length: int = 1) -> list[Event]:
    """Return texts, each of its own event."""
    return [TextDelta(generation_id=generation_id, text=f"{i} " * length) for i in range(count)]


def answer(client: Redis, generation_id: str, *events: Event) -> None:
    """Write a generation to its end."""
    claim_and_die(client, generation_id, lease=60)
    append_by_hand(client, generation_id, 1, *events)
    ending = GenerationCompleted(generation_id=generation_id)
    append_by_hand(client, generation_id, len(events) + 1, ending, ending="completed")


def write_answers(spool: Spool, client: Redis, count: int = 7) -> list[str]:
    """Write ended generations; return their ids."""
    ids = []
    for _ in range(count):
        generation_id = spool.enqueue(CHAT, "x").generation_id
        answer(client, generation_id, *texts(generation_id, 30))
        ids.append(generation_id)
    return ids


def send(site: Site, messages: list[dict[str, Any]], **fields: Any) -> None:
    """Send a history as the SDK does, and leave."""
    body = {"id": CHAT, "messages": messages, "trigger": "submit-message", **fields}
    with site.open_stream("/api/chat", "POST", json=body) as stream:
        stream.read_until(lambda s: any('"start"' in event.data for event in s.events))


def question(number: int) -> dict[str, Any]:
    """Return a user's message."""
    return {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": f"question {number}"}]}


def read_pages(site: Site, path: str, name: str, limit: int) -> list[Any]:
    """Return what all pages of a reply hold, in order."""
    found: list[Any] = []
    before: Any = None
    while True:
        reply = site.client.get(path, params={"limit": limit, **({} if before is None else {"before": before})})
        assert reply.status_code == 200, reply.text
        page = reply.json()
        assert len(page[name]) == limit or page["before"] is None
        found = [*page[name], *found]
        before = page["before"]
        if before is None:
            return found


def test_a_snapshot_has_pages(site: Site, spool: Spool, client: Redis) -> None:
    """The newest answers first, the others by `before`, and together they are the whole."""
    ids = write_answers(spool, client)
    whole = site.client.get(SNAPSHOT).json()
    assert [one["generation"] for one in whole["answers"]] == ids
    assert whole["before"] is None
    for limit in (1, 2, 3, 7, 8):
        assert read_pages(site, SNAPSHOT, "answers", limit) == whole["answers"]
    newest = site.client.get(f"{SNAPSHOT}?limit=2").json()
    assert [one["generation"] for one in newest["answers"]] == ids[-2:]
    assert (newest["seq"], newest["cursor"]) == (whole["seq"], whole["cursor"])


def test_a_page_that_is_none_is_refused(site: Site, spool: Spool, client: Redis) -> None:
    """A limit that is no number, or too large; a place that is none; a message that the chat does not have."""
    write_answers(spool, client, 1)
    for limit in ("0", "-1", "x", "10001"):
        for path in (SNAPSHOT, MESSAGES):
            assert problem(site.client.get(f"{path}?limit={limit}"))["status"] == 422
    assert problem(site.client.get(f"{SNAPSHOT}?before=x"))["type"].endswith("invalid-cursor")
    unknown = problem(site.client.get(f"{MESSAGES}?before=nobody"))
    assert unknown["status"] == 422
    assert "no message of this id" in unknown["detail"]


def test_messages_have_pages(site: Site, spool: Spool, client: Redis) -> None:
    """Those of the client's history, and the answers after it, in pages of any size."""
    history = [question(1), {"id": "a1", "role": "assistant", "parts": [{"type": "text", "text": "yes"}]}, question(2)]
    send(site, history)
    (asked,) = spool.status(CHAT).active
    answer(client, asked, *texts(asked, 40))
    later = write_answers(spool, client, 3)
    whole = site.client.get(MESSAGES).json()
    assert [one["id"] for one in whole["messages"]] == ["m1", "a1", "m2", asked, *later]
    for limit in (1, 2, 3, 4, 7, 8):
        assert read_pages(site, MESSAGES, "messages", limit) == whole["messages"]


def test_a_continued_message_is_whole_on_its_page(site: Site, spool: Spool, client: Redis) -> None:
    """The answer that continues a message of the history is part of it, on whichever page it is."""
    tool = {"type": "tool-clock", "toolCallId": "1", "state": "output-available", "input": {}, "output": "noon"}
    continued = {"id": "a1", "role": "assistant", "parts": [{"type": "step-start"}, tool]}
    send(site, [question(1), continued], messageId="a1")
    (asked,) = spool.status(CHAT).active
    answer(client, asked, *texts(asked, 40))
    later = write_answers(spool, client, 2)
    whole = site.client.get(MESSAGES).json()["messages"]
    assert [one["id"] for one in whole] == ["m1", "a1", *later]
    assert [part["type"] for part in whole[1]["parts"]] == ["step-start", "tool-clock", "step-start", "text"]
    for limit in (1, 2, 3):
        assert read_pages(site, MESSAGES, "messages", limit) == whole


def test_an_answer_that_was_left_behind_is_no_message(site: Site, spool: Spool, client: Redis) -> None:
    """It began before the newest question: what it still says afterwards is not shown, also not its end."""
    left = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, left, lease=60)
    append_by_hand(client, left, 1, *texts(left, 30))
    send(site, [question(1)])
    (asked,) = (one for one in spool.status(CHAT).active if one != left)
    ending = GenerationCompleted(generation_id=left)
    append_by_hand(client, left, 31, *texts(left, 30), ending, ending="completed")
    answer(client, asked, *texts(asked, 40))
    whole = site.client.get(MESSAGES).json()
    assert [one["id"] for one in whole["messages"]] == ["m1", asked]
    assert whole["active"] == []


def test_a_number_that_json_cannot_hold_is_null(site: Site, spool: Spool, client: Redis) -> None:
    """A tool may have written one; the snapshot is JSON all the same."""
    generation_id = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, generation_id, lease=60)
    huge = b'{"type":"data","generation":"%b","name":"n","value":1e400}' % generation_id.encode()
    Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=60_000, events=(huge,)))
    (seen,) = json.loads(site.client.get(SNAPSHOT).content)["answers"]
    assert seen["data"] == [["n", None]]


@pytest.mark.parametrize("path", [SNAPSHOT, MESSAGES, RESUME])
def test_a_chat_that_takes_too_long_says_so(
    site: Site, spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It says how far the chat was read, and not that Redis is away; each request comes further."""
    generation_id = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, generation_id, lease=60)
    append_by_hand(client, generation_id, 1, *texts(generation_id, 250))
    monkeypatch.setattr(RequestGate, "reading_seconds", 1e-9)
    reached = []
    for _ in range(100):
        with site.client.stream("GET", path) as reply:
            if reply.status_code == 200:
                break
            reply.read()
        told = problem(reply)
        assert (told["type"], told["last"]) == ("urn:chunkspool:problem:still-reading", 252)
        assert "Redis" not in told["detail"]
        assert reply.headers["retry-after"] == "1"
        reached.append(told["seq"])
    assert len(reached) > 10
    assert reached == sorted(set(reached))


@pytest.mark.parametrize("restarts", [False, True])
def test_a_resume_holds_little_at_a_time(
    site: Site, spool: Spool, client: Redis, monkeypatch: pytest.MonkeyPatch, *, restarts: bool
) -> None:
    """A long answer is sent on while it is read, but nothing of what a restart has made void."""
    monkeypatch.setattr(replay, "MAX_WAITING_BYTES", 2_000)
    taken: list[int] = []
    take = ClientStream._take  # noqa: SLF001 - what waits for the client is nobody else's

    def measured(stream: ClientStream) -> bytes:
        waiting = take(stream)
        taken.append(len(waiting))
        return waiting

    monkeypatch.setattr(ClientStream, "_take", measured)
    generation_id = spool.enqueue(CHAT, "x").generation_id
    claim_and_die(client, generation_id, lease=60)
    if restarts:
        void = [TextDelta(generation_id=generation_id, text="void " * 50) for _ in range(100)]
        append_by_hand(client, generation_id, 1, *void, lease=0.05)
        client.hdel(KEYS.gen(generation_id), "lease")
        assert claim_and_die(client, generation_id, lease=60) == 2
    said = texts(generation_id, 200, length=40)
    call = ToolCallEvent(generation_id=generation_id, id="1", name="clock", arguments="{}")
    append_by_hand(client, generation_id, 1, *said[:100], call, *said[100:], attempt=2 if restarts else 1)
    with site.open_stream(RESUME) as resumed:
        resumed.read_until(lambda s: any(" 199 199 " in event.data for event in s.events))
        ending = GenerationCompleted(generation_id=generation_id)
        append_by_hand(client, generation_id, 202, ending, ending="completed", attempt=2 if restarts else 1)
        events = resumed.read_to_end().events
    stream = b"".join(f"data: {event.data}\n\n".encode() for event in events)
    message = ClientMessage().take(parts_of(stream))
    shown = [part["text"] for part in message.visible() if part["type"] == "text"]
    assert shown == ["".join(f"{i} " * 40 for i in part) for part in (range(100), range(100, 200))]
    assert b"void" not in stream
    assert max(taken) < len(stream) / 2
