"""A server-sent event stream is decoded into events, however its bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.errors import ProviderError
from chunkspool.tasks.providers import sse_decoder
from chunkspool.tasks.providers.sse_decoder import SSEDecoder

STREAM = (
    ": a comment\n\n"
    'data: {"a": "\u2028\u0085\x0b"}\n\n'
    "event: x\nid: 1\nretry: 5\ndata:no space\r\n\r\n"
    "data: two\ndata: lines\n\n"
    "data:   spaces  \n\n\n\n"
    "data: [DONE]\n\n"
).encode()
EVENTS = ['{"a": "\u2028\u0085\x0b"}'.encode(), b"no space", b"two\nlines", b"spaces", b"[DONE]"]


def decode_cut(stream: bytes, *places: int) -> list[bytes]:
    """Return the events of a stream that arrives in pieces, cut at these places."""
    decoder = SSEDecoder()
    edges = [0, *sorted(places), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    fed = [event for piece in pieces for event in decoder.feed(piece)]
    return [event.data for event in (*fed, *decoder.end())]


def test_empty_lines_separate_events() -> None:
    """Comments, ids and names are ignored; CRLF ends a line, U+2028 in a text does not."""
    assert decode_cut(STREAM) == EVENTS


@given(st.sets(st.integers(0, len(STREAM))))
def test_any_cut_gives_the_same_events(places: set[int]) -> None:
    """Also a cut in the middle of a line, of CRLF or of a character."""
    assert decode_cut(STREAM, *places) == EVENTS


def test_the_last_event_may_lack_its_line_ends() -> None:
    """It is told apart, since it may be half a one."""
    for stream in (b"data: whole\n\ndata: last", b"data: whole\n\ndata: last\n"):
        decoder = SSEDecoder()
        assert [event.data for event in decoder.feed(stream)] == [b"whole"]
        assert [event.data for event in decoder.end()] == [b"last"]
        assert list(decoder.end()) == []


@given(st.sets(st.integers(0, len(STREAM) * 2)), st.sampled_from([b"\r", b"\r\n", b"\n"]))
def test_any_line_end_gives_the_same_events(places: set[int], ending: bytes) -> None:
    """The standard has three, and each may be cut in two; a byte order mark comes before the first line."""
    stream = b"\xef\xbb\xbf" + b"\n".join(STREAM.splitlines()).replace(b"\n", ending)
    assert decode_cut(stream + ending, *(place for place in places if place <= len(stream))) == EVENTS


def test_a_lone_cr_ends_an_event_at_once() -> None:
    """Nobody waits for an LF that does not come; one that comes later ends no second line."""
    decoder = SSEDecoder()
    assert [event.data for event in decoder.feed(b"data: a\r\r")] == [b"a"]
    assert list(decoder.feed(b"")) == []
    assert [event.data for event in decoder.feed(b"\ndata: b\rdata: c\r\n\r")] == [b"b\nc"]


@pytest.mark.parametrize("stream", [b"data:\n\n", b"data: \n\n", b": data: x\n\n", b"data\n\n", b"event: x\n\n"])
def test_an_event_without_data_is_none(stream: bytes) -> None:
    """Some servers send them as keep-alives."""
    assert decode_cut(stream) == []


def test_an_event_has_a_name() -> None:
    """A failure may have no more than that; the next event does not inherit it."""
    decoder = SSEDecoder()
    events = decoder.feed(b"event: error\ndata: x\n\nevent:error\n\ndata: y\n\n")
    assert list(events) == [(b"x", b"error"), (b"", b"error"), (b"y", b"")]


def test_a_long_line_costs_no_more_than_its_bytes() -> None:
    """In pieces of 256 bytes, 7 MB took 45 seconds when each piece was added to a copy of the line."""
    decoder = SSEDecoder()
    for piece in (b"data: ", *[b"x" * 256] * 28_000):
        assert list(decoder.feed(piece)) == []
    ((data, _),) = decoder.feed(b"\n\n")
    assert len(data) == 256 * 28_000


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
