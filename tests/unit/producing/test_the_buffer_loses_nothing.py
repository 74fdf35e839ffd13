"""The buffer between a model and Redis merges, numbers and splits events without loss, repetition or reordering."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.events import DataEvent, GenerationCompleted, GenerationFailed, ReasoningDelta, TextDelta, encode
from chunkspool.producing.buffer import BATCH_BYTES, BATCH_EVENTS, Batch, Buffer, Kind, encode_delta

LIMIT = 64 * 1024
SMALLEST_EVENT = 1024
ENDING = encode(GenerationCompleted(generation_id="g"))
FAILED = encode(GenerationFailed(generation_id="g", code="store_unavailable", message="lost"))
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["text", "reasoning"])
# Difficult characters: short and long in UTF-8, longer in JSON, halves of a surrogate pair.
TEXTS = st.text(st.characters() | st.sampled_from('\0\n"\\é😀\ud83d\ude00'), min_size=1, max_size=300)
SAID = st.tuples(KINDS, TEXTS) | st.tuples(st.just("data"), st.integers())
STEPS = st.lists(st.one_of(SAID, st.sampled_from(["cut", "written"])), max_size=60)


def buffer_of(limit: int = LIMIT, max_event_bytes: int = SMALLEST_EVENT) -> Buffer:
    """Return an empty buffer."""
    return Buffer("g", limit, max_event_bytes)


def take_all(buffer: Buffer) -> list[Batch]:
    """Take everything that waits, like a flusher whose writes all succeed."""
    batches = []
    while (batch := buffer.cut()) is not None:
        batches.append(batch)
        buffer.confirm()
    return batches


def events_of(batches: list[Batch]) -> list[dict[str, Any]]:
    """Return the events of batches; fail unless they are numbered from 1 without gaps."""
    numbers = [batch.index + i for batch in batches for i in range(len(batch.events))]
    assert numbers == list(range(1, len(numbers) + 1))
    return [json.loads(event) for batch in batches for event in batch.events]


def merged(said: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Return the events with adjacent ones of the same kind merged."""
    merged: list[tuple[str, Any]] = []
    for kind, value in said:
        if kind != "data" and merged and merged[-1][0] == kind:
            merged[-1] = (kind, merged[-1][1] + value)
        else:
            merged.append((kind, value))
    return merged


def kinds_and_values_of(events: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return kind and value of each event."""
    return [(event["type"].removesuffix(".delta"), event.get("text", event.get("value"))) for event in events]


@given(STEPS)
def test_everything_is_written_once_and_in_order(steps: list[Any]) -> None:
    """However adding and writing interleave, and however often a write is repeated."""
    buffer, said, batches = buffer_of(), list[tuple[str, Any]](), list[Batch]()
    for step in steps:
        match step:
            case ("data", value):
                said.append(step)
                buffer.add_event(encode(DataEvent(generation_id="g", name="n", value=value)))
            case (kind, text):
                # A pair split by two writes cannot be joined, so halves have their own test.
                whole = "".join("?" if 0xD800 <= ord(char) < 0xE000 else char for char in text)
                said.append((kind, whole))
                buffer.add_text(kind, whole)
            case "cut":
                if (batch := buffer.cut()) is not None:
                    assert buffer.cut() is batch
            case "written":
                if (batch := buffer.cut()) is not None:
                    batches.append(batch)
                    buffer.confirm()
    buffer.end("completed", ENDING)
    batches += take_all(buffer)
    events = events_of(batches)
    assert events.pop()["type"] == "generation.completed"
    assert [batch.ending for batch in batches] == [None] * (len(batches) - 1) + ["completed"]
    assert merged(kinds_and_values_of(events)) == merged(said)
    assert all(len(event) <= SMALLEST_EVENT for batch in batches for event in batch.events)


@given(KINDS, TEXTS)
def test_a_delta_is_encoded_as_any_event_is(kind: Kind, text: str) -> None:
    """The fast path and the general path produce the same bytes."""
    model = TextDelta if kind == "text" else ReasoningDelta
    assert encode_delta("g", kind, text) == encode(model(generation_id="g", text=text))


def test_adjacent_deltas_of_one_kind_are_merged() -> None:
    """Another kind, or any other event, separates them."""
    buffer = buffer_of()
    for kind, text in [("text", "a"), ("text", "b"), ("reasoning", "c"), ("reasoning", "d"), ("text", "e")]:
        buffer.add_text(kind, text)  # type: ignore[arg-type]
    buffer.add_event(encode(DataEvent(generation_id="g", name="n", value=1)))
    buffer.add_text("text", "f")
    assert kinds_and_values_of(events_of(take_all(buffer))) == [
        ("text", "ab"),
        ("reasoning", "cd"),
        ("text", "e"),
        ("data", 1),
        ("text", "f"),
    ]


def test_the_flusher_hears_of_the_first_piece_and_of_a_full_batch() -> None:
    """Of no other: to wake its thread for each token would cost more than the token."""
    buffer = buffer_of(limit=64 * 1024 * 1024)
    told = [buffer.add_event(ENDING) for _ in range(2 * BATCH_EVENTS)]
    assert [at for at, tell in enumerate(told, 1) if tell] == [1, BATCH_EVENTS]
    assert buffer.has_full_batch
    buffer.cut()
    buffer.confirm()
    assert buffer.has_full_batch, "the second batch is full as well"
    buffer.cut()
    buffer.confirm()
    assert not buffer.has_full_batch


@given(st.lists(st.integers(1, BATCH_BYTES), min_size=1, max_size=8))
def test_bytes_make_a_batch_full_as_well(sizes: list[int]) -> None:
    """Half of a small buffer does: a producer that waits for room waits for no window."""
    buffer = buffer_of(limit=BATCH_BYTES, max_event_bytes=BATCH_BYTES * 7)
    told = [buffer.add_text("text", "x" * size) for size in sizes]
    full = [sum(sizes[:at]) >= BATCH_BYTES // 2 for at in range(1, len(sizes) + 1)]
    assert buffer.has_full_batch == full[-1]
    first_full = full.index(True) if any(full) else None
    assert [at for at, tell in enumerate(told) if tell] == sorted({0} | ({first_full} if first_full else set()))


def test_an_ending_waits_for_nothing() -> None:
    """Nothing follows it, so there is nothing to gather."""
    buffer = buffer_of()
    buffer.add_text("text", "bye")
    assert not buffer.has_full_batch
    buffer.end("completed", ENDING)
    assert buffer.has_full_batch


def test_split_surrogate_pairs_are_joined() -> None:
    """Models split them between tokens, which may be more than one flush apart; the first half waits for the other."""
    buffer = buffer_of()
    texts = []
    for text in ["a\ud83d", "\ude00!", "\ud83d", "\ude01", "\ud83d"]:
        buffer.add_text("text", text)
        texts += [json.loads(event)["text"] for batch in take_all(buffer) for event in batch.events]
    assert texts == ["a", "😀!", "😁"]
    buffer.end("completed", ENDING)
    (batch,) = take_all(buffer)
    assert json.loads(batch.events[0])["text"] == "\ufffd", "a half that stays alone is a U+FFFD"
    assert (len(batch.events), batch.index, batch.ending) == (2, 4, "completed")
    assert not buffer.is_full


@pytest.mark.parametrize("after", ["reasoning", "event", "released"])
def test_half_a_character_is_lost_by_nothing(after: str) -> None:
    """What comes instead of its other half does not take it along."""
    buffer = buffer_of()
    buffer.add_text("text", "\ud83d")
    assert take_all(buffer) == []
    if after == "reasoning":
        assert buffer.add_text("reasoning", "hm"), "the flusher must be woken"
    elif after == "event":
        assert buffer.add_event(ENDING)
    else:
        buffer.end_without_ending(counts=False)
    (batch,) = take_all(buffer)
    assert json.loads(batch.events[0])["text"] == "\ufffd"
    assert len(batch.events) == (1 if after == "released" else 2)


def test_a_long_piece_is_not_cut_within_a_character() -> None:
    """Wherever the limit of an event falls."""
    buffer = buffer_of()
    text = "x" + "\ud83d\ude00" * 1000
    buffer.add_text("text", text)
    events = events_of(take_all(buffer))
    assert "".join(event["text"] for event in events) == "x" + "😀" * 1000
    assert len(events) > 1


def test_a_huge_piece_is_split_into_events_and_batches() -> None:
    """Ten megabytes in one piece: no event exceeds its limit, no batch exceeds its own by much."""
    buffer, text = buffer_of(max_event_bytes=64 * 1024), "\0é" * 2_500_000
    buffer.add_text("text", text)
    assert buffer.is_full
    batches = take_all(buffer)
    assert "".join(event["text"] for event in events_of(batches)) == text
    assert max(len(event) for batch in batches for event in batch.events) <= 64 * 1024
    assert max(batch.size for batch in batches) <= BATCH_BYTES + 64 * 1024
    assert not buffer.is_full


def test_a_batch_is_limited_in_events_and_bytes() -> None:
    """Anything above the limits goes into the next batch."""
    buffer = buffer_of(limit=1)
    for number in range(BATCH_EVENTS + 1):
        buffer.add_event(encode(DataEvent(generation_id="g", name="n", value=number)))
    assert [len(batch.events) for batch in take_all(buffer)] == [BATCH_EVENTS, 1]
    big = encode(DataEvent(generation_id="g", name="n", value="x" * (BATCH_BYTES // 2)))
    for _ in range(3):
        buffer.add_event(big)
    assert [len(batch.events) for batch in take_all(buffer)] == [1, 1, 1]


def test_no_event_makes_a_batch_larger_than_its_limit() -> None:
    """Whole events and merged text wait for the next batch, so that Redis is not kept from others."""
    big = encode(DataEvent(generation_id="g", name="n", value="x" * (BATCH_BYTES - 100)))
    buffer = buffer_of(limit=8 * BATCH_BYTES, max_event_bytes=BATCH_BYTES)
    for _ in range(3):
        buffer.add_event(big)
        for _ in range(3 * BATCH_BYTES // 8000):
            buffer.add_text("text", "x" * 4000)
    assert max(batch.size for batch in take_all(buffer)) <= BATCH_BYTES + 4000


def test_adding_tells_whether_the_flusher_must_be_woken() -> None:
    """Only the first event in an empty buffer wakes it."""
    buffer = buffer_of()
    assert buffer.add_text("text", "a")
    assert not buffer.add_text("text", "b")
    assert not buffer.add_event(ENDING)
    buffer.cut()
    assert buffer.add_event(ENDING), "what is under way waits no more"
    assert buffer.confirm(), "there is more to write"
    buffer.cut()
    assert not buffer.confirm()


def test_the_ending_is_written_last_however_early_it_came() -> None:
    """Also when more is waiting than one batch holds."""
    buffer = buffer_of()
    for number in range(BATCH_EVENTS):
        buffer.add_event(encode(DataEvent(generation_id="g", name="n", value=number)))
    buffer.end("completed", ENDING)
    batches = take_all(buffer)
    assert [batch.ending for batch in batches] == ["completed"]
    assert events_of(batches)[-1]["type"] == "generation.completed"
    assert buffer.cut() is None


def test_a_full_buffer_blocks_until_half_is_free() -> None:
    """The producer waits until half of it is written."""
    buffer = buffer_of(limit=4 * BATCH_BYTES)
    for _ in range(8):
        buffer.add_event(b"x" * (BATCH_BYTES // 2))
    assert buffer.is_full
    room = buffer.wait_for_room()
    assert buffer.wait_for_room() is room
    waited = []
    while not room.done():
        waited.append(buffer.cut())
        buffer.confirm()
    assert len(waited) == 2
    assert not buffer.is_full
    assert buffer.wait_for_room().done(), "nobody waits where there is room"


def test_an_unblocked_producer_no_longer_waits() -> None:
    """Neither one that is already waiting nor one that comes a moment later."""
    buffer = buffer_of(limit=1)
    buffer.add_text("text", "more than one byte")
    waiting = buffer.wait_for_room()
    assert not waiting.done()
    buffer.unblock()
    assert waiting.done()
    assert buffer.wait_for_room().done()


def test_a_cancelled_producer_does_not_affect_the_flusher() -> None:
    """Cancelling an async producer does not cancel the future that the flusher is going to set."""
    buffer = buffer_of(limit=1)
    buffer.add_text("text", "more than one byte")
    assert not buffer.wait_for_room().cancel()
    buffer.cut()
    buffer.confirm()
    assert buffer.wait_for_room().done()


@pytest.mark.parametrize("ended", ["before", "under way", "after"])
def test_a_restart_drops_pending_events_and_fails_the_generation(ended: str) -> None:
    """Redis lost events: the producer's own ending, whenever it comes, becomes the failure."""
    buffer = buffer_of()
    buffer.add_text("text", "lost")
    if ended == "under way":
        buffer.end("completed", ENDING)
    buffer.cut()
    if ended == "before":
        buffer.add_text("text", "lost, too")
        buffer.end("completed", ENDING)
    assert buffer.restart_at(7, FAILED) == (ended != "after")
    if ended == "after":
        assert buffer.cut() is None
        buffer.end("completed", ENDING)
    (batch,) = take_all(buffer)
    assert (batch.index, batch.events, batch.ending) == (7, (FAILED,), "failed")


def test_two_threads_can_add_and_write_at_once() -> None:
    """One thread adds, another writes: nothing is lost or out of order."""
    buffer, numbers = buffer_of(), range(20_000)

    def write() -> list[Batch]:
        batches: list[Batch] = []
        while not batches or batches[-1].ending is None:
            if (batch := buffer.cut()) is not None:
                batches.append(batch)
                buffer.confirm()
        return batches

    with ThreadPoolExecutor() as pool:
        writer = pool.submit(write)
        for number in numbers:
            buffer.add_text("text", f"{number} ")
        buffer.end("completed", ENDING)
        events = events_of(writer.result(60))
    assert "".join(event["text"] for event in events[:-1]) == "".join(f"{number} " for number in numbers)
