"""An entry is checked when it is read; the shortcut for deltas agrees with the full check."""

from __future__ import annotations

import json
import pickle
from copy import copy

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from chunkspool import Entry
from chunkspool.errors import CorruptLog
from chunkspool.events import ReasoningDelta, TextDelta, UsageEvent, decode, encode
from chunkspool.store.entries import Item, Unreadable, entry_of, item_of, items_of_stream, read_frame, seq_of

TEXT = TextDelta(generation_id="g", text="tëxt\n")
RAW = encode(TEXT)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
kinds = st.sampled_from(["text.delta", "reasoning.delta", "usage", "tool.call", "generation.started", "later"])
almost_events = st.fixed_dictionaries(
    {},
    optional={"type": kinds | values, "generation": st.text(max_size=5) | values, "text": st.text(max_size=5) | values},
)


def verdict_of_full_check(raw: bytes) -> str:
    """Return what the full check says about `raw`."""
    try:
        decode(raw, 1)
    except CorruptLog as error:
        return error.why
    return "sound"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=40))
@example(b"[" * 10_000)
@example(b"null")
def test_any_bytes_are_an_entry_or_unreadable(raw: bytes) -> None:
    """Nothing else is raised, whatever is stored in Redis."""
    assert isinstance(item_of(1, 2, raw), Entry | Unreadable)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(almost_events)
@example({"type": "text.delta", "generation": "g", "text": 1})
@example({"type": "text.delta", "generation": None, "text": ""})
@example({"type": ["text.delta"], "generation": "g", "text": ""})
def test_the_shortcut_agrees_with_the_full_check(fields: dict[str, object]) -> None:
    """What the shortcut accepts decodes to the same type and generation; anything else gets the full check."""
    raw = json.dumps(fields).encode()
    item = item_of(1, 2, raw)
    if isinstance(item, Unreadable):
        assert item.why == verdict_of_full_check(raw)
        with pytest.raises(CorruptLog) as raised:
            entry_of(item)
        assert raised.value.seq == 1
    else:
        event = decode(raw, 1)
        assert (item.event, item.type, item.generation_id, item.raw) == (event, event.type, event.generation_id, raw)


def test_an_entry_is_a_value() -> None:
    """Entries with the same seq and event are equal, decoded or not, and survive copying and pickling."""
    lazy, eager = entry_of(item_of(3, 4, RAW)), Entry(3, 4, TEXT, RAW)
    assert lazy == eager
    assert hash(lazy) == hash(eager)
    assert lazy != Entry(4, 4, TEXT, RAW)
    assert lazy != Entry(3, 4, UsageEvent(generation_id="g", input_tokens=1, output_tokens=1), RAW)
    assert lazy != RAW
    assert pickle.loads(pickle.dumps(lazy)) == copy(lazy) == eager  # noqa: S301 - our own bytes
    assert repr(lazy) == repr(eager)
    assert (lazy.seq, lazy.at, lazy.type, lazy.generation_id, lazy.raw, lazy.event) == (
        3,
        4,
        "text.delta",
        "g",
        RAW,
        TEXT,
    )


@pytest.mark.parametrize(
    "fields",
    [
        [b"t", b"7", b"e", RAW],
        {b"t": b"7", b"e": RAW},
        {"t": "7", "e": RAW.decode()},
        ["t", "7", "e", RAW.decode()],
        [b"e", RAW, b"t", b"7"],
        [b"t", b"7", b"e", RAW, b"more", b"1"],
    ],
)
def test_a_stream_is_read_in_every_reply_format(fields: object) -> None:
    """As Redis sends it, as redis-py's callbacks convert it, as text, or with fields of a newer version."""
    entry_id = "12-0" if "t" in fields else b"12-0"  # type: ignore[operator]
    assert items_of_stream([(entry_id, fields)]) == (Entry(12, 7, TEXT, RAW),)


def test_a_foreign_stream_entry_is_unreadable() -> None:
    """An entry without an event keeps its place; an invalid time counts as 0."""
    found = items_of_stream([(b"1-0", [b"x", b"y"]), (b"2-0", [b"t", b"soon", b"e", RAW])])
    assert found == (Unreadable(1, "the entry has no event in it"), Entry(2, 0, TEXT, RAW))
    strange = items_of_stream([(b"1-0", [b"\xff", b"\xfe"]), (b"2-0", [b"t", b"9" * 5_000, b"\xff", b"", b"e", RAW])])
    assert strange == (Unreadable(1, "the entry has no event in it"), Entry(2, 0, TEXT, RAW))
    assert items_of_stream(None) == ()
    assert (seq_of(b"7-0"), seq_of("7-3")) == (7, 7)


def test_a_frame_numbers_its_events() -> None:
    """One event per line, counted up from its first seq; an unreadable one keeps its place."""
    other = encode(ReasoningDelta(generation_id="g", text="hm"))
    frame = read_frame(b"5 9 abc 8\n" + RAW + b"\n{}\n" + other)
    assert frame is not None
    items: tuple[Item, ...] = frame.items
    assert (frame.first, frame.last, frame.log, frame.at, frame.previous) == (5, 7, "abc", 9, 8)
    assert [item.seq for item in items] == [5, 6, 7]
    assert isinstance(items[1], Unreadable)
    assert (items[0], items[2]) == (
        Entry(5, 9, TEXT, RAW),
        Entry(7, 9, ReasoningDelta(generation_id="g", text="hm"), other),
    )


@pytest.mark.parametrize("data", [b"0 0\n", b"", b"\n", b"x\n{}", b"5\n{}", b"x 9\n{}", b"-1 9\n{}", b"\xff 1\n"])
def test_an_erase_and_an_invalid_frame_have_no_first_seq(data: bytes) -> None:
    """Both send the readers to the log."""
    found = read_frame(data)
    assert found is not None
    assert (found.first, found.items) == (0, ())
