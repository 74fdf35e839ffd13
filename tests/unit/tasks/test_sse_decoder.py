"""A server-sent event stream is decoded into events, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import ProviderError
from tasks.providers import sse_decoder
from tasks.providers.sse_decoder import SSEDecoder

STREAM = (
    ": a comment\n\n"
    'data: {"a": "\u2028\u0085\x0b"}\n\n'
    "event: x\nid: 1\nretry: 5\ndata:no space\r\n\r\n"
    "data: two\ndata: lines\n\n"
    "data:   spaces  \n\n\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = ['{"a": "\u2028\u0085\x0b"}'.encode(), b"no space", b"two\nlines", b"  spaces  ", b"[DONE]"]


def decode_cut(stream: bytes, *places: int) -> list[bytes]:
    """Return the events of a stream that arrives in pieces, cut at these places."""
    decoder = SSEDecoder()
    edges = [0, *sorted(places), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    return [event for piece in pieces for event in decoder.feed(piece)]


def test_empty_lines_separate_events() -> None:
    """Comments, ids and names are ignored; CRLF ends a line, U+2028 in a text does not."""
    assert decode_cut(STREAM) == EVENTS


@given(st.sets(st.integers(0, len(STREAM))))
def test_any_cut_gives_the_same_events(places: set[int]) -> None:
    """Also a cut in the middle of a line, of CRLF or of a character."""
    assert decode_cut(STREAM, *places) == EVENTS


def test_an_event_without_its_empty_line_does_not_count() -> None:
    """A stream that is cut off must not give half an event."""
    assert decode_cut(b"data: whole\n\ndata: half") == [b"whole"]
    assert decode_cut(b"data: whole\n\ndata: half\n") == [b"whole"]


@pytest.mark.parametrize("stream", [b"data: " + b"x" * 2000, b"data: xxxxxxxx\n" * 200])
def test_an_endless_line_or_event_is_an_error(monkeypatch: pytest.MonkeyPatch, stream: bytes) -> None:
    """It must not fill the worker's memory."""
    monkeypatch.setattr(sse_decoder, "MAX_EVENT", 1000)
    with pytest.raises(ProviderError) as caught:
        decode_cut(stream, *range(0, len(stream), 100))
    assert caught.value.code == "malformed_response"


def test_many_small_events_may_be_longer_in_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit applies to one event, not to the stream."""
    monkeypatch.setattr(sse_decoder, "MAX_EVENT", 1000)
    assert len(decode_cut(b"data: x\n\n" * 1000, *range(0, 9000, 100))) == 1000
