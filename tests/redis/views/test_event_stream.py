"""A stream that a view returns: for servers with threads and with an event loop, the same bytes and the same end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import append_by_hand, claim_and_die
from support.readers.stream_bodies import BODY_KINDS, Body, open_bodies
from support.waiting import eventually
from support.web.sse import SseEvent, events_of
from support.web.ui_message import ClientMessage, parts_of
from support.web.web_server import Site

from chunkspool import Spool
from chunkspool.dialects import HEARTBEAT
from chunkspool.events import TextDelta
from chunkspool.views import EventStream, UseChat, UseChatRequest, follow

Open = Callable[[EventStream], Body]
HEARTBEATS = 0.05


@pytest.fixture(params=BODY_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Give the way in which a server reads."""
    return str(request.param)


@pytest.fixture
def open_stream(kind: str, redis_url: str) -> Iterator[Open]:
    """Give the function that opens a stream."""
    with open_bodies(kind, redis_url, heartbeat=HEARTBEATS) as opened:
        yield opened


def read_until(body: Body, word: bytes) -> bytes:
    """Read until a piece has the word; return all of it."""
    read = b""
    for piece in body:
        read += piece
        if word in read:
            return read
    raise AssertionError(read)


def followed(spool: Spool, cursor: int | str = 0, *, waits: bool = False) -> EventStream:
    """Return the chat's stream; there is one."""
    stream = follow(spool, CHAT, cursor, waits=waits)
    assert stream is not None
    return stream


def types(events: list[SseEvent]) -> list[str]:
    """Return the types of chat events."""
    return [json.loads(event.data)["type"] for event in events]


def send(spool: Spool, text: str = "why?", sdk: int = 6) -> EventStream:
    """Ask as a front end does."""
    message = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": text}]}
    return UseChat(spool).send(UseChatRequest.parse({"id": CHAT, "messages": [message]}), sdk=sdk)


def test_events_come_while_they_are_written(spool: Spool, open_stream: Open, site: Site) -> None:
    """Each one before the next is written; at the end the body is that of the web app's route."""
    made = spool.enqueue(CHAT, "x")
    body = open_stream(followed(spool))
    whole = read_until(body, b"generation.queued")
    with spool.produce(CHAT, made.generation_id) as out:
        for word in ("one", "two", "three"):
            out.text(word)
            whole += read_until(body, word.encode())
    whole += b"".join(body)
    served = site.client.get(f"/v1/chats/{CHAT}/events").content
    assert events_of(whole) == events_of(served)
    assert whole.replace(HEARTBEAT, b"") == served.replace(HEARTBEAT, b"")
    assert types(events_of(whole))[-1] == "generation.completed"


def test_a_cut_is_resumed_without_gap_or_duplicate(spool: Spool, open_stream: Open) -> None:
    """At every event; behind the last one there is no stream."""
    made = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, made.generation_id) as out:
        for number in range(5):
            out.text(f"word{number} ")
            out.data("tick", number)
    whole = events_of(b"".join(open_stream(followed(spool))))
    for cut, event in enumerate(whole[:-1], 1):
        assert events_of(b"".join(open_stream(followed(spool, event.id)))) == whole[cut:]
    assert follow(spool, CHAT, whole[-1].id) is None


def test_silence_has_heartbeats(spool: Spool, open_stream: Open) -> None:
    """A server with threads notices by them that its client has gone."""
    spool.enqueue(CHAT, "x")
    body = open_stream(followed(spool))
    read_until(body, b"generation.queued")
    assert [next(body) for _ in range(3)] == [HEARTBEAT] * 3
    body.close()


def test_whoever_hangs_up_leaves_nothing(spool: Spool, open_stream: Open, client: Redis) -> None:
    """Neither a subscription nor a channel: before the first event, in silence, and in the middle of an answer."""
    made = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, made.generation_id) as out:
        out.text("word")
        for word in (b"retry", b"queued", b"word"):
            body = open_stream(followed(spool))
            read_until(body, word)
            body.close()
            eventually(lambda: KEYS.live.encode() not in client.pubsub_channels())


def test_a_stream_that_waits_stays_open_between_answers(spool: Spool, open_stream: Open) -> None:
    """It tells of the next one; without `waits` it ends with the first."""
    first = spool.enqueue(CHAT, "x")
    with spool.produce(CHAT, first.generation_id) as out:
        out.text("one")
    body = open_stream(followed(spool, waits=True))
    read_until(body, b"generation.completed")
    second = spool.enqueue(CHAT, "y")
    assert second.generation_id.encode() in read_until(body, b"generation.queued")
    body.close()


def test_a_stream_ends_at_its_deadline(spool: Spool, kind: str, redis_url: str) -> None:
    """Its client resumes. A `useChat` is told by an error, because it would take a clean end for the whole answer."""
    stream = send(spool)
    with open_bodies(kind, redis_url, heartbeat=HEARTBEATS, stream_deadline=0.2) as opened:
        assert types(events_of(b"".join(opened(followed(spool, waits=True))))) == ["generation.queued"]
        message = ClientMessage().take(parts_of(b"".join(opened(stream))))
    assert message.error is not None
    assert "resume" in message.error


def test_a_corrupt_entry_costs_one_event(spool: Spool, open_stream: Open, client: Redis) -> None:
    """It is told in its place, and what follows comes."""
    made = spool.enqueue(CHAT, "x")
    client.incr(KEYS.seq)
    client.xadd(KEYS.log, {"e": "not json"}, id="2-0")
    with spool.produce(CHAT, made.generation_id) as out:
        out.text("one")
    events = events_of(b"".join(open_stream(followed(spool))))
    names = ("generation.queued", "log.corrupt", "generation.started", "text.delta", "generation.completed")
    assert [event.name for event in events] == list(names)


def test_what_goes_wrong_on_the_way_is_told(spool: Spool, open_stream: Open) -> None:
    """Nobody can raise once the headers have left: the client gets the problem, and the stream ends."""
    spool.enqueue(CHAT, "x")
    stream = followed(spool)
    spool.erase(CHAT)
    events = events_of(b"".join(open_stream(stream)))
    assert [event.name for event in events] == ["problem"]
    assert json.loads(events[0].data)["status"] == 404


def test_a_resumed_answer_is_that_of_the_live_stream(spool: Spool, open_stream: Open) -> None:
    """In the middle of it, merged, and then live to its end."""
    live = open_stream(send(spool))
    (generation_id,) = spool.status(CHAT).active
    with spool.produce(CHAT, generation_id) as out:
        out.text("one ")
        read = read_until(live, b"one ")
        for number in range(50):
            out.text(f"{number} ")
        read += read_until(live, b"49 ")
        resumed = UseChat(spool).resume(CHAT)
        assert resumed is not None
        body = open_stream(resumed)
        again = read_until(body, b"49 ")
        out.text("end")
    messages = [ClientMessage().take(parts_of(part + b"".join(rest))) for part, rest in ((read, live), (again, body))]
    assert messages[0].visible() == messages[1].visible()
    assert again.count(b"text-delta") == 1
    assert UseChat(spool).resume(CHAT) is None


def test_a_resume_has_nothing_of_a_void_attempt(spool: Spool, open_stream: Open, client: Redis) -> None:
    """The worker was killed, and another one began anew."""
    send(spool)
    (generation_id,) = spool.status(CHAT).active
    claim_and_die(client, generation_id, 0.05)
    append_by_hand(client, generation_id, 1, TextDelta(generation_id=generation_id, text="void"), lease=0.05)
    with spool.produce(CHAT, generation_id, wait=5) as out:
        out.text("good")
        stream = UseChat(spool).resume(CHAT)
        assert stream is not None
        read = read_until(open_stream(stream), b"good")
    assert b"void" not in read


def test_a_stream_survives_a_lost_connection(spool: Spool, open_stream: Open, client: Redis) -> None:
    """Redis drops all of its clients: no event is missing, and none comes twice."""
    made = spool.enqueue(CHAT, "x")
    body = open_stream(followed(spool))
    read = read_until(body, b"generation.queued")
    with spool.produce(CHAT, made.generation_id) as out:
        for number in range(6):
            out.text(f"word{number} ")
            read += read_until(body, f"word{number} ".encode())
            client.client_kill_filter(_type="pubsub" if number % 2 else "normal", skipme=True)
    read += b"".join(body)
    seqs = [event.seq for event in events_of(read)]
    assert seqs == list(range(1, len(seqs) + 1))
