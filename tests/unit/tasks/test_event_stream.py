"""A server-sent event stream is cut into events, however its bytes arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import ProviderError
from tasks.providers import event_stream
from tasks.providers.event_stream import EventStream

STREAM = (
    ": a comment\n\n"
    'data: {"a": "\u2028\u0085\x0b"}\n\n'
    "event: x\nid: 1\nretry: 5\ndata:no space\r\n\r\n"
    "data: two\ndata: lines\n\n"
    "data:   spaces  \n\n\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = ['{"a": "\u2028\u0085\x0b"}'.encode(), b"no space", b"two\nlines", b"  spaces  ", b"[DONE]"]


def cut(stream: bytes, *places: int) -> list[bytes]:
    """Return the events of a stream that arrives in pieces, cut at these places."""
    reader = EventStream()
    edges = [0, *sorted(places), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    return [event for piece in pieces for event in reader.feed(piece)]


def test_events_are_what_stands_between_empty_lines() -> None:
    """Comments, ids and names are passed over, CRLF is a line's end, U+2028 inside a text is none."""
    assert cut(STREAM) == EVENTS


@given(st.sets(st.integers(0, len(STREAM))))
def test_any_cut_gives_the_same(places: set[int]) -> None:
    """In the middle of a line, of CRLF or of a character."""
    assert cut(STREAM, *places) == EVENTS


def test_an_event_without_its_empty_line_is_none() -> None:
    """A stream that breaks off must not give half an event."""
    assert cut(b"data: whole\n\ndata: half") == [b"whole"]
    assert cut(b"data: whole\n\ndata: half\n") == [b"whole"]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 2000, b"data: xxxxxxxx\n" * 200])
def test_a_stream_without_an_end_of_line_or_event_is_given_up(monkeypatch: pytest.MonkeyPatch, stream: bytes) -> None:
    """It must not fill the worker's memory."""
    monkeypatch.setattr(event_stream, "MAX_EVENT", 1000)
    with pytest.raises(ProviderError) as caught:
        cut(stream, *range(0, len(stream), 100))
    assert caught.value.code == "malformed_response"


def test_many_small_events_may_be_longer_in_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is one event's."""
    monkeypatch.setattr(event_stream, "MAX_EVENT", 1000)
    assert len(cut(b"data: x\n\n" * 1000, *range(0, 9000, 100))) == 1000
