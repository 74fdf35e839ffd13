"""Digests in Redis: what one covers, its blocks, and how one more is added. A digest is a cache of the log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from chunkspool.errors import ChatNotFound
from chunkspool.events import Entry
from chunkspool.store.blocks import Block, blocks_of_index, pack
from chunkspool.store.commands import ScriptCall, Transaction, as_bytes, as_text
from chunkspool.store.entries import seq_of
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import last_seq, newest_entry
from chunkspool.store.positions import Position
from chunkspool.store.scripts import load

MAX_DIGEST_BYTES: Final = 64 * 1024 * 1024
"""Bytes of a chat's digest in Redis. What does not fit is read from the log each time."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A chat as it stood at `seq`, in blocks, for `load_digest`: adjacent deltas of a generation are merged.

    `log` is the log's identity and `chain` the name of the blocks that are in Redis. `first` is the first seq that is
    kept (`seq + 1` when none is). `active` and `cursor` are as in a snapshot. `has_gaps`: behind `first`, entries are
    missing in the log. `has_unreadable`: there are entries that cannot be decoded, which no block has.
    """

    keys: ChatKeys
    chain: str
    log: str
    blocks: tuple[Block, ...]
    first: int
    seq: int
    active: tuple[str, ...]
    cursor: str
    has_gaps: bool = False
    has_unreadable: bool = False

    def generations(self) -> tuple[tuple[str, int], ...]:
        """Return the generations and the seqs of their first events in these blocks, in that order."""
        first: dict[str, int] = {}
        for block in self.blocks:
            for generation_id, seq in block.begun:
                first.setdefault(generation_id, seq)
        return tuple(first.items())

    def restarts_until(self, generation_id: str) -> int:
        """Return the number of the first block from which on no attempt of the generation makes others void."""
        restarts = (at for at, block in enumerate(self.blocks) if generation_id in block.restarted)
        return max(restarts, default=-1) + 1


@dataclass(frozen=True, slots=True)
class DigestPart:
    """Entries of some blocks of a digest, one generation after the other. `next` is the block that follows, or None.

    A merged delta has the seq and the time of its block's last event.
    """

    entries: tuple[Entry, ...]
    next: int | None


@dataclass(frozen=True, slots=True)
class Extent:
    """What is kept of a log: `first` is `last + 1` when nothing is. `is_whole`: from there on, nothing is missing."""

    first: int
    last: int
    log: str
    is_whole: bool


def extent(keys: ChatKeys) -> Transaction[Extent]:
    """Read what is kept of the chat's log. It raises `ChatNotFound`."""

    def parse(replies: Sequence[Any]) -> Extent:
        counter, oldest, latest, length, log = replies
        last = last_seq(counter, latest)
        if last is None:
            raise ChatNotFound(keys.chat_id)
        first = min(seq_of(oldest[0][0]), last + 1) if oldest else last + 1
        return Extent(first, last, as_text(log or ""), int(length) == last - first + 1)

    commands = (
        ("GET", keys.seq),
        ("XRANGE", keys.log, "-", "+", "COUNT", 1),
        newest_entry(keys),
        ("XLEN", keys.log),
        ("HGET", keys.head, "log"),
    )
    return Transaction(commands, parse)


def lag(keys: ChatKeys) -> Transaction[int]:
    """Read about how many events the digest lacks: of which log it is, is not looked at."""

    def parse(replies: Sequence[Any]) -> int:
        counter, length, reached = replies
        return min(int(counter or 0) - int(reached or 0), int(length))

    return Transaction((("GET", keys.seq), ("XLEN", keys.log), ("HGET", keys.digest, "last")), parse)


@dataclass(frozen=True, slots=True)
class Chain:
    """The stored blocks of a digest, each beginning where the one before it ends. `name` is "" where there is none."""

    name: str = ""
    log: str = ""
    blocks: tuple[Block, ...] = ()

    @property
    def end(self) -> Position:
        """Behind its last event. Whoever reads on from there notices another log."""
        return Position(self.blocks[-1].last, self.log, self.blocks[-1].at)


def chain(keys: ChatKeys) -> Transaction[Chain]:
    """Read which blocks are stored. Whether they are of the log that is there now, it does not tell."""

    def parse(replies: Sequence[Any]) -> Chain:
        ((name, log, index),) = replies
        blocks = blocks_of_index(as_bytes(index)) if name and log and index else None
        return Chain(as_text(name or ""), as_text(log or ""), blocks or ())

    return Transaction((("HMGET", keys.digest, "chain", "log", "index"),), parse)


def stored_blocks(keys: ChatKeys, name: str, blocks: Sequence[Block]) -> Transaction[list[bytes | None]]:
    """Read stored blocks of the chain `name`, packed; None where one is gone."""

    def parse(replies: Sequence[Any]) -> list[bytes | None]:
        return [None if value is None else as_bytes(value) for value in replies[0]]

    fields = (f"{name}:{block.last}" for block in blocks)
    return Transaction((("HMGET", keys.digest, *fields),), parse)


AddOutcome = Literal["added", "behind", "other_log", "full"]


def add_block(keys: ChatKeys, block: Block, *, chain: str, seen: str, log: str) -> ScriptCall[AddOutcome]:
    """Add a block to the chain `chain`; see lua/add_block.lua. Without `plain`, there is nothing to add."""

    def parse(reply: list[Any]) -> AddOutcome:
        outcome: Any = as_text(reply[0])
        return outcome  # type: ignore[no-any-return]

    args = (chain, seen, log, block.first, block.last, block.at, block.line(), pack(block.plain or b""))
    return ScriptCall(load("add_block"), (keys.log, keys.head, keys.digest), (*args, MAX_DIGEST_BYTES), parse)
