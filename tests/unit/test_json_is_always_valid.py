"""Whatever a model or an app says, the log and every dialect hold JSON that every parser takes."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.cli.formatting import json_line
from chunkspool.dialects.native import NativeEncoder
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.errors import CorruptLog
from chunkspool.events import DataEvent, Entry, Event, GenerationStarted, ToolCallEvent, ToolResultEvent, decode, encode
from chunkspool.json_text import to_valid_json
from chunkspool.store.entries import Unreadable, item_of

G = "g"
HALF = "\ud800"
ARGUMENTS = [
    '{"n": 1e400}',
    '{"n": -1e400}',
    '{"n": [NaN, Infinity]}',
    r'{"s": "\ud800"}',
    r'{"s": "\ud83d\ude00"}',
    f'{{"s": "{HALF}"}}',
    '{"__proto__": {"x": 1}}',
    '{"a": [{"__proto__": 1}]}',
    r'{"\u005f_proto__": 1}',
    '{"constructor": {"prototype": 1}}',
    '{"constructor": 1}',
    '{"s": "__proto__"}',
    "[" * 5000,
    "{",
    "",
]


def strict(raw: bytes) -> Any:
    """Decode JSON as a strict parser does: in UTF-8, without numbers out of range and halves of characters."""
    value = json.loads(raw.decode(), parse_constant=_refuse, parse_float=_checked_float)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def _checked_float(text: str) -> float:
    number = float(text)
    assert math.isfinite(number)
    return number


def keys_of(value: Any) -> set[str]:
    """Return all keys at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


def data_of(stream: bytes) -> list[Any]:
    """Return the data of a stream's events, checked."""
    lines = [line.removeprefix(b"data: ") for line in stream.split(b"\n") if line.startswith(b"data: ")]
    return [strict(line) for line in lines if line != b"[DONE]"]


def parts_of(*events: Event) -> list[Any]:
    """Return what a useChat client gets."""
    encoder = UseChatEncoder(G)
    for seq, event in enumerate([GenerationStarted(generation_id=G, attempt=1), *events], 1):
        encoder.add(_entry(seq, event))
    return data_of(encoder.take())


def _entry(seq: int, event: Event) -> Entry:
    """Return the entry that the log holds for an event."""
    stored = encode(event)
    return Entry(seq, 0, decode(stored, seq), stored)


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_arguments_of_a_tool_call_break_nothing(arguments: str) -> None:
    """What a browser can take arrives as it is; everything else as an error with the model's own text."""
    event = ToolCallEvent(generation_id=G, id="c", name="f", arguments=arguments)
    stored = strict(encode(event))
    native = NativeEncoder()
    entry = _entry(1, event)
    native.add(entry)
    assert data_of(native.take()) == [stored]
    assert strict(json_line(entry)) == {"seq": 1, **stored}
    part = parts_of(event)[-1]
    assert not keys_of(part) & {"__proto__"}
    if part["type"] == "tool-input-available":
        assert part["input"] == json.loads(stored["arguments"] or "{}")
    else:
        assert (part["type"], part["input"]) == ("tool-input-error", stored["arguments"])


def test_what_a_browser_takes_is_no_error() -> None:
    """Pairs of halves, and words that only look dangerous."""
    for arguments in (r'{"s": "\ud83d\ude00"}', '{"s": "__proto__"}', '{"constructor": 1}', ""):
        part = parts_of(ToolCallEvent(generation_id=G, id="c", name="f", arguments=arguments))[-1]
        assert part["type"] == "tool-input-available"


@pytest.mark.parametrize(
    "value", [math.inf, -math.inf, math.nan, HALF, {HALF: [HALF, math.nan]}, {"__proto__": 1, "a": 2}]
)
def test_values_of_an_app_break_nothing(value: Any) -> None:
    """Tool results and data: numbers that JSON lacks are null, halves of characters U+FFFD, prototypes left out."""
    call = ToolCallEvent(generation_id=G, id="c", name="f", arguments="{}")
    events = (DataEvent(generation_id=G, name="d", value=value), ToolResultEvent(generation_id=G, id="c", output=value))
    for event in events:
        strict(encode(event))
    *_, data, result = parts_of(call, *events)
    assert data["data"] == result["output"]
    assert not keys_of(data) & {"__proto__"}
    assert data["data"] != {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_the_gate_lets_only_valid_json_pass(value: Any) -> None:
    """Any value that Python's JSON has, with lone surrogates and numbers out of range."""
    json.loads(to_valid_json(value).decode(), parse_constant=_refuse)


@pytest.mark.parametrize("raw", [b'"value":NaN', b'"value":[Infinity]', b'"text":"a","more":-Infinity'])
@pytest.mark.parametrize("of_type", ["data", "text.delta", "never.heard.of"])
def test_what_is_no_json_is_corrupt_whoever_wrote_it(raw: bytes, of_type: str) -> None:
    """Python's JSON has NaN and Infinity, which would break off a browser's stream."""
    entry = item_of(7, 0, b'{"type":"%b","generation":"g","name":"d",%b}' % (of_type.encode(), raw))
    assert isinstance(entry, Unreadable)
    with pytest.raises(CorruptLog, match="not JSON"):
        decode(b'{"type":"%b","generation":"g",%b}' % (of_type.encode(), raw), 7)
