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
DELTAS = frozenset({"text.delta", "reasoning.delta"})
_USUAL = (b"t", b"e", b"-0")
_NO_FRAME = b"."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An entry that no chunkspool wrote. It keeps its place, so that the error comes where it stands."""

    seq: int
    why: str
    at: int = 0


Item = Entry | Unreadable


class Frame(NamedTuple):
    """A batch as it was published. `first` is 0 for "look into the log", and for what is no frame at all.

    `log` is the identity of the log, `at` when the batch was written, `previous` when the event before it was (0: not
    known); both in Unix ms by Redis's clock.
    """

    first: int
    items: tuple[Item, ...]
    size: int
    log: str = ""
    at: int = 0
    previous: int = 0

    @property
    def last(self) -> int:
        """The seq of its last entry."""
        return self.first + len(self.items) - 1


def entry_of(item: Item) -> Entry:
    """Return the entry. Raises `CorruptLog` with its seq if it cannot be read."""
    if isinstance(item, Unreadable):
        raise CorruptLog(item.seq, item.why)
    return item


def item_of(seq: int, at: int, raw: bytes, log: str = "") -> Item:
    """Return what stands at `seq`, checked.

    Of a delta, which nearly all entries are, the fields are looked at and no more: making the event costs four times
    as much. All others are decoded.
    """
    try:
        fields = from_json(raw, allow_inf_nan=False)
        of_type, generation = fields["type"], fields["generation"]
        if of_type in DELTAS and isinstance(generation, str) and isinstance(fields["text"], str):
            return Entry(seq, at, None, raw, of_type, generation, log)
    except (ValueError, TypeError, KeyError):
        pass  # decode says what is wrong, or knows better
    return _decode_item(seq, at, raw, log)


def items_of_stream(reply: Any, log: str = "") -> tuple[Item, ...]:
    """Return the entries of an XRANGE, as Redis sends it or as redis-py's callbacks leave it.

    `log` is the identity of the log that holds them.
    """
    # `item_of` once more, without a call for each entry: this loop is most of what a replay costs.
    items: list[Item] = []
    for entry_id, fields in reply or ():
        try:
            t, at, e, raw = fields
            event = from_json(raw, allow_inf_nan=False)
            of_type, generation = event["type"], event["generation"]
            if (
                of_type in DELTAS
                and isinstance(generation, str)
                and isinstance(event["text"], str)
                and (t, e, entry_id[-2:]) == _USUAL
            ):
                items.append(Entry(int(entry_id[:-2]), int(at), None, raw, of_type, generation, log))
                continue
        except (ValueError, TypeError, KeyError):
            pass  # another number of fields, a time that is none, a dict, or no delta
        items.append(_of_fields(seq_of(entry_id), fields, log))
    return tuple(items)


def seq_of(entry_id: bytes | str) -> int:
    """Return the seq in a stream entry's id, `<seq>-0`."""
    return int(entry_id.partition(b"-")[0] if isinstance(entry_id, bytes) else entry_id.partition("-")[0])


def at_of(fields: Sequence[Any] | dict[Any, Any]) -> int:
    """Return when a stream's entry was written, 0 where it does not say so."""
    return _time_of(_named(fields))


def read_frame(data: bytes) -> Frame | None:
    """Return the frame in a message: `<first seq> <ms> <log> <ms of the event before>`, then one event a line.

    None where there is nothing to see: a script makes sure with such a message that it may publish.
    """
    if data == _NO_FRAME:
        return None
    header, *events = data.split(b"\n")
    try:
        seq, ms, identity, before = header.split()
        first, at, previous, log = int(seq), int(ms), int(before), identity.decode("ascii")
    except ValueError:
        first = 0
    if first < 1:
        return Frame(0, (), len(data))
    items = tuple([item_of(first + i, at, raw, log) for i, raw in enumerate(events)])
    return Frame(first, items, len(data), log, at, previous)


def _decode_item(seq: int, at: int, raw: bytes, log: str) -> Item:
    try:
        return Entry(seq, at, decode(raw, seq), raw, log=log)
    except CorruptLog as error:
        return Unreadable(seq, error.why, at)


def _of_fields(seq: int, fields: Sequence[Any] | dict[Any, Any], log: str) -> Item:
    """Return an entry whose fields may be in any order, be a dict or be text."""
    named = _named(fields)
    at = _time_of(named)
    if b"e" not in named:
        return Unreadable(seq, "the entry has no event in it", at)
    return item_of(seq, at, named[b"e"], log)


def _named(fields: Sequence[Any] | dict[Any, Any]) -> dict[bytes, bytes]:
    pairs = fields.items() if isinstance(fields, dict) else zip(fields[::2], fields[1::2], strict=False)
    return {as_bytes(name): as_bytes(value) for name, value in pairs}


def _time_of(named: dict[bytes, bytes]) -> int:
    at = named.get(b"t", b"0")
    return int(at) if at.isdigit() and len(at) <= _TIME_DIGITS else 0
