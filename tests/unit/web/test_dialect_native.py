"""The native dialect: a reader gets the log's entries unchanged, whatever they contain and wherever a stream is cut."""

from __future__ import annotations

import json

from support.chats.generated_entries import entries_of, random_log
from support.web.sse import SseEvent, SseParser, events_of

from chunkspool import Entry
from chunkspool.dialects import HEARTBEAT
from chunkspool.dialects.native import NativeEncoder
from chunkspool.events import TextDelta, UnknownEvent


def encode_all(entries: list[Entry], **options: bool) -> bytes:
    """Return the stream of these entries."""
    encoder = NativeEncoder(**options)
    for entry in entries:
        encoder.add(entry)
    return encoder.take()


def test_id_event_and_data_are_seq_type_and_the_stored_bytes() -> None:
    """`data:` is the stored JSON, byte for byte, even with white space that chunkspool never writes."""
    raw = b'{"type": "text.delta",  "generation": "g", "text": "\\u00fc\\n"}'
    entry = Entry(7, 1, TextDelta(generation_id="g", text="ü\n"), raw)
    assert events_of(encode_all([entry])) == [SseEvent("7.-1", "text.delta", raw.decode())]


def test_a_resume_after_any_event_makes_the_stream_whole() -> None:
    """For 200 random logs and every cut k: the events up to k plus those of a resume after k equal the whole stream."""
    for seed in range(200):
        log = random_log(seed)
        whole = events_of(encode_all(log))
        assert [(event.id, json.loads(event.data)) for event in whole] == [
            (entry.cursor, json.loads(entry.raw)) for entry in log
        ]
        for k in range(len(log) + 1):
            assert events_of(encode_all(log[:k])) + events_of(encode_all(log[k:])) == whole


def test_a_forged_event_cannot_break_out_of_its_line() -> None:
    """Line breaks between the tokens of a forged event stay inside its data; a forged type cannot add a field."""
    raw = b'{"type":\n"text.delta",\r\n"generation":"g",\r"text":"x"}'
    entries = [
        Entry(1, 1, TextDelta(generation_id="g", text="x"), raw),
        Entry(2, 1, UnknownEvent(type="x\nid: 99", generation_id="g"), b'{"type":"x\\nid: 99"}'),
    ]
    found = events_of(encode_all(entries))
    assert [(event.id, event.name) for event in found] == [("1.-1", "text.delta"), ("2.-1", "unknown")]
    assert json.loads(found[0].data) == json.loads(raw)


def test_times_are_comments_that_an_event_source_ignores() -> None:
    """With `times`, a comment before each event has its time of writing; the events stay the same."""
    log = random_log(1)
    reader = SseParser()
    assert list(reader.events(encode_all(log, times=True))) == events_of(encode_all(log))
    assert reader.comments == [str(entry.at) for entry in log]


def test_every_block_has_data() -> None:
    """No empty line but behind data: some clients pass every other block on as an empty message."""
    encoder, reader = NativeEncoder(times=True), SseParser()
    log = random_log(2)
    found = list(reader.events(encoder.take() + HEARTBEAT))
    for entry in log:
        encoder.add(entry)
        found += reader.events(encoder.take() + HEARTBEAT)
    assert [event.id for event in found] == [entry.cursor for entry in log]
    assert (reader.blanks, reader.retry) == (0, 1000)


def test_nothing_is_taken_twice() -> None:
    """`take` empties the encoder and resets `size`."""
    encoder = NativeEncoder()
    encoder.add(entries_of([TextDelta(generation_id="g", text="x")])[0])
    assert encoder.size > 0
    assert encoder.take().startswith(b"retry: ")
    assert (encoder.size, encoder.take()) == (0, b"")


def test_a_corrupt_entry_and_an_early_end_are_events() -> None:
    """A reader learns which seq is unreadable, and why a stream ends early."""
    encoder = NativeEncoder()
    encoder.add_corrupt(5)
    encoder.add_problem({"status": 410, "title": "Cursor expired"})
    corrupt, problem = events_of(encoder.take())
    assert corrupt == SseEvent("5", "log.corrupt", '{"seq":5}')
    assert (problem.name, json.loads(problem.data)["status"]) == ("problem", 410)
