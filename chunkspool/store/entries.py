"""What Redis brings becomes entries here: a stream's reply, or a frame. Each is checked once, whoever reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json

from chunkspool.errors import CorruptLog
from chunkspool.events import Entry, decode
from chunkspool.store.commands import as_bytes

_TIME_DIGITS = 16
"""Unix ms of any time to come have fewer; what another program wrote may be no time at all."""
_DELTAS = frozenset({"text.delta", "reasoning.delta"})
_USUAL = (b"t", b"e", b"-0")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that no chunkspool wrote. It keeps its place, so that the error comes where it stands."""

    seq: int
    why: str


Item = Entry | Unreadable


class Frame(NamedTuple):
    """A batch as it was published. `first` is 0 for a chat that was erased, and for what is no frame at all."""

    first: int
    items: tuple[Item, ...]
    size: int

    @property
    def last(self) -> int:
        """The seq of its last entry."""
        return self.first + len(self.items) - 1


def entry_of(item: Item) -> Entry:
    """Return the entry. Raises `CorruptLog` with its seq if it cannot be read."""
    if isinstance(item, Unreadable):
        raise CorruptLog(item.seq, item.why)
    return item


def item_of(seq: int, at: int, raw: bytes) -> Item:
    """Return what stands at `seq`, checked.

    Of a delta, which nearly all entries are, the fields are looked at and no more: making the event costs four times
    as much. All others are decoded.
    """
    try:
        fields = from_json(raw)
        of_type, generation = fields["type"], fields["generation"]
        if of_type in _DELTAS and isinstance(generation, str) and isinstance(fields["text"], str):
            return Entry(seq, at, None, raw, of_type, generation)
    except (ValueError, TypeError, KeyError):
        pass  # decode says what is wrong, or knows better
    return _decode_item(seq, at, raw)


def items_of_stream(reply: Any) -> tuple[Item, ...]:
    """Return the entries of an XRANGE, as Redis sends it or as redis-py's callbacks leave it."""
    # `item_of` once more, without a call for each entry: this loop is most of what a replay costs.
    items: list[Item] = []
    for entry_id, fields in reply or ():
        try:
            t, at, e, raw = fields
            event = from_json(raw)
            of_type, generation = event["type"], event["generation"]
            if (
                of_type in _DELTAS
                and isinstance(generation, str)
                and isinstance(event["text"], str)
                and (t, e, entry_id[-2:]) == _USUAL
            ):
                items.append(Entry(int(entry_id[:-2]), int(at), None, raw, of_type, generation))
                continue
        except (ValueError, TypeError, KeyError):
            pass  # another number of fields, a time that is none, a dict, or no delta
        items.append(_of_fields(seq_of(entry_id), fields))
    return tuple(items)


def seq_of(entry_id: bytes | str) -> int:
    """Return the seq in a stream entry's id, `<seq>-0`."""
    return int(entry_id.partition(b"-")[0] if isinstance(entry_id, bytes) else entry_id.partition("-")[0])


def read_frame(data: bytes) -> Frame:
    """Return the frame in a message: `<first seq> <ms>`, then one event a line."""
    header, *events = data.split(b"\n")
    try:
        numbers = header.split()
        first, at = int(numbers[0]), int(numbers[1])
    except (ValueError, IndexError):
        first = at = 0
    if first < 1:
        return Frame(0, (), len(data))
    return Frame(first, tuple([item_of(first + i, at, raw) for i, raw in enumerate(events)]), len(data))


def _decode_item(seq: int, at: int, raw: bytes) -> Item:
    try:
        return Entry(seq, at, decode(raw, seq), raw)
    except CorruptLog as error:
        return Unreadable(seq, error.why)


def _of_fields(seq: int, fields: Sequence[Any] | dict[Any, Any]) -> Item:
    """Return an entry whose fields may be in any order, be a dict or be text."""
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=False)
    named = {as_bytes(name): as_bytes(value) for name, value in pairs}
    if b"e" not in named:
        return Unreadable(seq, "the entry has no event in it")
    at = named.get(b"t", b"0")
    return item_of(seq, int(at) if at.isdigit() and len(at) <= _TIME_DIGITS else 0, named[b"e"])
