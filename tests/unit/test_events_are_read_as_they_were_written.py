"""Events survive a round trip, newer events are passed on, and forged ones are reported."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError
from pydantic_core import from_json

from chunkspool.errors import CorruptLog
from chunkspool.events import (
    DataEvent,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
    decode,
    encode,
)

TEXT = st.text(max_size=20)
COUNT = st.integers(0, 2**53)
JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(GenerationQueued, generation_id=TEXT),
    st.builds(GenerationStarted, generation_id=TEXT, attempt=COUNT, model=st.none() | TEXT, continues=st.booleans()),
    st.builds(TextDelta, generation_id=TEXT, text=TEXT),
    st.builds(ReasoningDelta, generation_id=TEXT, text=TEXT),
    st.builds(ToolCallEvent, generation_id=TEXT, id=TEXT, name=TEXT, arguments=TEXT),
    st.builds(ToolResultEvent, generation_id=TEXT, id=TEXT, output=JSON),
    st.builds(DataEvent, generation_id=TEXT, name=TEXT, value=JSON),
    st.builds(UsageEvent, generation_id=TEXT, input_tokens=COUNT, output_tokens=COUNT),
    st.builds(GenerationCompleted, generation_id=TEXT, finish_reason=TEXT),
    st.builds(GenerationStopped, generation_id=TEXT, by=TEXT, reason=st.none() | TEXT),
    st.builds(GenerationFailed, generation_id=TEXT, code=TEXT, message=TEXT, retryable=st.booleans()),
)


@given(EVENTS)
def test_an_event_survives_encoding_and_decoding(event: Event) -> None:
    """Every type, with every kind of value, on one line."""
    raw = encode(event)
    assert decode(raw, 1) == event
    assert b"\n" not in raw, "a frame has one event a line"
    assert json.loads(raw)["type"] == event.type


def test_stored_bytes_are_compact_utf8() -> None:
    """There is no whitespace, and no escape for a character that UTF-8 can hold."""
    raw = encode(TextDelta(generation_id="g", text="é😀"))
    assert raw == '{"type":"text.delta","generation":"g","text":"é😀"}'.encode()


@pytest.mark.parametrize(("said", "stored"), [("\ud83d\ude00", "😀"), ("a\ud83d", "a\ufffd"), ("\ude00b", "\ufffdb")])
def test_halves_of_a_surrogate_pair(said: str, stored: str) -> None:
    """A pair becomes its character and a lone half becomes U+FFFD: JSON in UTF-8 can hold neither."""
    assert decode(encode(TextDelta(generation_id="g", text=said)), 1) == TextDelta(generation_id="g", text=stored)
    data = decode(encode(DataEvent(generation_id="g", name=said, value={said: [said]})), 1)
    assert data == DataEvent(generation_id="g", name=stored, value={stored: [stored]})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("text", ["plain", "half \ud83d"])
def test_non_finite_numbers_become_null(number: float, text: str) -> None:
    """Browsers read the stored bytes, so they must be valid JSON."""
    raw = encode(DataEvent(generation_id="g", name="n", value=[number, text]))
    assert from_json(raw, allow_inf_nan=False)["value"][0] is None


def test_an_unknown_type_is_passed_on_with_all_its_fields() -> None:
    """A newer version wrote it; readers get all of it."""
    raw = b'{"type":"image.delta","generation":"g","png":"abc","size":[1,2]}'
    event = decode(raw, 1)
    assert isinstance(event, UnknownEvent)
    assert (event.type, event.generation_id) == ("image.delta", "g")
    assert event.model_extra == {"png": "abc", "size": [1, 2]}
    assert encode(event) == raw
    assert decode(b'{"type":"chat.renamed"}', 1).generation_id == ""


def test_unknown_fields_of_a_known_type_are_kept() -> None:
    """A newer version wrote these too."""
    raw = b'{"type":"text.delta","generation":"g","text":"a","logprob":-0.5}'
    event = decode(raw, 1)
    assert isinstance(event, TextDelta)
    assert event.model_extra == {"logprob": -0.5}
    assert encode(event) == raw


def test_events_are_immutable() -> None:
    """Readers of a chat may share them."""
    event = TextDelta(generation_id="g", text="a")
    with pytest.raises(ValidationError):
        event.text = "b"  # type: ignore[misc]


FORGED = {
    "nothing": b"",
    "no JSON": b"hello",
    "half of it": b'{"type":"text.delta","generation":"g","te',
    "no object": b'["text.delta"]',
    "null": b"null",
    "no type": b'{"generation":"g","text":"a"}',
    "type is no text": b'{"type":1,"generation":"g"}',
    "type is null": b'{"type":null,"generation":"g"}',
    "no UTF-8": b'{"type":"text.delta","generation":"g","text":"\xff"}',
    "half of a pair": b'{"type":"text.delta","generation":"g","text":"\\ud83d"}',
    "no text": b'{"type":"text.delta","generation":"g"}',
    "no generation": b'{"type":"text.delta","text":"a"}',
    "text is no text": b'{"type":"text.delta","generation":"g","text":{}}',
    "attempt is no number": b'{"type":"generation.started","generation":"g","attempt":"first"}',
    "generation is no text": b'{"type":"image.delta","generation":7}',
    "two of them": b'{"type":"data","generation":"g","name":"n","value":1}{}',
    "nested without end": b'{"type":"data","generation":"g","name":"n","value":' + b"[" * 100_000,
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED)
def test_a_forged_event_is_reported_with_its_seq(raw: bytes) -> None:
    """`CorruptLog` names the entry and says what is wrong; no other error is raised."""
    with pytest.raises(CorruptLog, match="event 7 cannot be read: .+") as told:
        decode(raw, 7)
    assert told.value.seq == 7


@given(st.binary(max_size=60) | st.binary(max_size=30).map(lambda raw: b'{"type":"text.delta",' + raw + b"}"))
def test_arbitrary_bytes_are_an_event_or_corrupt_log(raw: bytes) -> None:
    """Decoding returns an event or raises `CorruptLog`, nothing else."""
    try:
        event = decode(raw, 7)
    except CorruptLog as error:
        assert error.seq == 7  # noqa: PT017 - both outcomes are right
    else:
        assert isinstance(event.type, str)
