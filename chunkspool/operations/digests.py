"""Reads a whole chat: stored blocks for what is old, the log for what is new. Without I/O.

A log only grows, so what is written in it never changes, whether or not a generation has ended. Whoever reads past a
block's worth of new events stores the block, so that nobody reads these events again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from chunkspool.effects import Operation, Pause
from chunkspool.errors import (
    ChatContended,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    DigestUnfinished,
    InvalidInput,
    StoreError,
    shown,
)
from chunkspool.events import Entry
from chunkspool.store import digests, queries
from chunkspool.store.blocks import Block, BlockBuilder, unpack
from chunkspool.store.digests import Chain, Digest, DigestPart, Extent
from chunkspool.store.entries import Unreadable
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import Page, entries_that_fit, page_after
from chunkspool.store.positions import Position, checked_position

RACES: Final = 20
"""How often a reader begins again because the chat changed under it, or because another one was faster."""
FIRST_PAGE: Final = 100
MOST_ENTRIES: Final = 500
PAGE_BYTES: Final = 128 * 1024
"""Entries of the first read, and what a later one is meant to hold: a few milliseconds of an event loop."""
NEAR: Final = 20_000
"""Events behind the stored blocks that are read although only later ones are needed, so that the blocks go on."""
POLL_SECONDS: Final = 0.2
"""How often a reader looks how far another one has come; a block takes much less."""
PART_BYTES: Final = 512 * 1024
"""Bytes of the blocks that are unpacked in one go."""


def make_digest(keys: ChatKeys, within: float | None = None, after: object = 0) -> Operation[Digest]:
    """Return the chat as it stands, at least what follows `after`.

    Raises `ChatNotFound`, `InvalidCursor`, or `DigestUnfinished` after `within` seconds.
    """
    needed = checked_position(after).seq
    late_at = time.monotonic() + _checked_seconds(within)
    distrusted, other_reached, races = "", None, 0
    while races < RACES:
        kept = yield from digests.extent(keys)
        chain = yield from _find_chain(keys)
        reached = chain.blocks[-1].last if chain.blocks else 0
        if other_reached is not None and reached > other_reached:
            # Another reader does the same work, and comes further: two of them would only do it twice.
            if time.monotonic() > late_at:
                raise DigestUnfinished(keys.chat_id, reached, kept.last)
            other_reached = reached
            yield from Pause(POLL_SECONDS)
            continue
        races += 1
        making = _Making(keys, kept, chain, late_at, needed, distrusted=distrusted, stores=races < RACES)
        try:
            return (yield from making.run())
        except _Behind:
            other_reached = reached
        except _Changed:
            distrusted, other_reached = chain.name if making.is_at_chain else "", None
    raise ChatContended(keys.chat_id, "be read")


def load_part(digest: Digest, generation_ids: Collection[str] | None, start: int) -> Operation[DigestPart]:
    """Return the entries of these generations (None: of all) in the digest's next blocks, from block `start` on.

    It reads the log instead where a stored block is gone. Raises `CursorExpired` or `CursorAhead` where the log is.
    """
    end, size = start, 0
    while end < len(digest.blocks) and (end == start or size < PART_BYTES):
        size += digest.blocks[end].size if digest.blocks[end].holds(generation_ids) else 0
        end += 1
    wanted = [block for block in digest.blocks[start:end] if block.holds(generation_ids)]
    packed = yield from _fetch(digest, [block for block in wanted if block.plain is None])
    entries: list[Entry] = []
    for block in wanted:
        found = _entries_in(digest, block, packed.get(block.last), generation_ids)
        if found is None:
            again = yield from _read_again(digest, block)
            found = list(again.entries(again.plain or b"", generation_ids, digest.log))
        entries += found
    return DigestPart(tuple(entries), end if end < len(digest.blocks) else None)


class _Changed(Exception):
    """The log is not the one in which the reader stood."""


class _Behind(Exception):
    """Another reader has stored the block."""


class _Making:
    """One reading of a chat, from the end of the stored blocks to the end of the log."""

    def __init__(
        self,
        keys: ChatKeys,
        kept: Extent,
        chain: Chain,
        late_at: float,
        needed: int,
        *,
        distrusted: str,
        stores: bool,
    ) -> None:
        """Begin behind the chain, if it is of this log and not `distrusted`; else behind the seq `needed`.

        `stores`: new blocks may be stored.
        """
        self._keys = keys
        self._late_at = late_at
        # Where something is missing in the log, a fold of the log lacks it, too; and without an identity, nobody could
        # tell later of which log a block is.
        self._stores = stores and kept.is_whole and bool(kept.log)
        start = max(kept.first - 1, min(needed, kept.last))
        is_sound = (
            bool(chain.blocks)
            and chain.log == kept.log
            and kept.first <= chain.blocks[0].first <= start + 1
            and chain.name != distrusted
        )
        # A chain that ends long before is left to those who need all of the chat.
        is_near = is_sound and start - chain.end.seq <= NEAR
        is_used = self._stores and is_near
        self._stores = self._stores and is_near == is_sound
        self._log = kept.log
        self._seen = chain.name
        self._chain = chain.name if is_used else ""
        self._blocks = list(chain.blocks) if is_used else []
        self._position = chain.end if is_used else Position(start)
        self._builder = BlockBuilder(self._position.seq + 1)
        self._first = kept.first
        self._has_gaps = not kept.is_whole
        self._has_unreadable = False
        self.is_at_chain = is_used
        """Whether nothing was read yet behind the stored blocks: if they do not fit to the log, they are to blame."""

    def run(self) -> Operation[Digest]:
        limit = FIRST_PAGE
        while True:
            try:
                page = yield from page_after(self._keys, self._position, limit)
            except CursorAhead:
                raise _Changed from None
            except CursorExpired as gap:
                self._pass_over(gap)
                continue
            except CorruptLog as foreign:
                if foreign.seq is None:
                    raise
                active = (yield from queries.load(self._keys)).active or ()
                return self._finish(active, str(self._position.seq))
            self._take(page)
            if self._position.seq >= page.last:
                place = replace(self._position, log=page.log, at=page.last_at)
                return self._finish(page.active, str(place))
            limit = entries_that_fit(page.entries, PAGE_BYTES, MOST_ENTRIES)
            is_late = time.monotonic() > self._late_at
            if self._builder.is_full or is_late:
                yield from self._end_block()
            if is_late:
                raise DigestUnfinished(self._keys.chat_id, self._position.seq, page.last)

    def _take(self, page: Page) -> None:
        self.is_at_chain = False
        entries = []
        for item in page.entries:
            if isinstance(item, Unreadable):
                self._has_unreadable = True
                self._stores = False  # a later version may be able to read it
            else:
                entries.append(item)
        self._builder.add(entries)
        if page.entries:
            newest = page.entries[-1]
            self._builder.last = newest.seq
            self._position = Position(newest.seq, page.log, newest.at)
        self._log = page.log or self._log

    def _pass_over(self, gap: CursorExpired) -> None:
        """Go on behind what is no longer kept."""
        if gap.first <= self._position.seq:
            raise _Changed
        self._stores = False
        self._has_gaps = True
        self._position = Position(gap.first - 1)

    def _end_block(self) -> Operation[None]:
        block = self._builder.build()
        if self._stores:
            name = self._chain or secrets.token_hex(6)
            outcome = yield from self._store(block, name)
            if outcome == "behind":
                raise _Behind
            if outcome == "added":
                self._chain = self._seen = name
                block = replace(block, plain=None)
            else:
                self._stores = False  # what is wrong with the log, if anything, the next page tells
        self._blocks.append(block)
        self._builder = BlockBuilder(self._position.seq + 1)

    def _store(self, block: Block, name: str) -> Operation[str]:
        try:
            return (yield from digests.add_block(self._keys, block, chain=name, seen=self._seen, log=self._log))
        except (StoreError, CorruptLog):
            return "refused"  # Redis is full, or takes no writes from us: a read must not fail because of that

    def _finish(self, active: tuple[str, ...], cursor: str) -> Digest:
        tail = self._builder.build()
        blocks = (*self._blocks, tail) if tail.begun or tail.others else tuple(self._blocks)
        return Digest(
            keys=self._keys,
            chain=self._chain,
            log=self._log,
            blocks=blocks,
            first=self._first,
            seq=self._position.seq,
            active=active,
            cursor=cursor,
            has_gaps=self._has_gaps,
            has_unreadable=self._has_unreadable,
        )


def _find_chain(keys: ChatKeys) -> Operation[Chain]:
    try:
        return (yield from digests.chain(keys))
    except CorruptLog:
        return Chain()  # another program's key: as good as none


def _fetch(digest: Digest, blocks: list[Block]) -> Operation[dict[int, bytes | None]]:
    if not blocks:
        return {}
    try:
        found = yield from digests.stored_blocks(digest.keys, digest.chain, blocks)
    except CorruptLog:
        return {}
    return {block.last: value for block, value in zip(blocks, found, strict=True)}


def _entries_in(
    digest: Digest, block: Block, packed: bytes | None, generation_ids: Collection[str] | None
) -> list[Entry] | None:
    """Return the block's entries; None where the block is gone, or is nothing that chunkspool has packed."""
    if block.plain is None and packed is None:
        return None
    try:
        plain = block.plain if block.plain is not None else unpack(packed or b"")
        return list(block.entries(plain, generation_ids, digest.log))
    except (ValueError, CorruptLog):
        return None


def _read_again(digest: Digest, block: Block) -> Operation[Block]:
    builder = BlockBuilder(block.first)
    position = Position(block.first - 1)
    while position.seq < block.last:
        page = yield from page_after(digest.keys, position, min(MOST_ENTRIES, block.last - position.seq))
        if page.log != digest.log or not page.entries:
            raise CursorExpired(position.seq, page.last + 1, page.last)
        builder.add(item for item in page.entries if isinstance(item, Entry))
        position = Position(page.entries[-1].seq, page.log, page.entries[-1].at)
    return builder.build()


def _checked_seconds(within: float | None) -> float:
    if within is None:
        return float("inf")
    if isinstance(within, bool) or not isinstance(within, int | float) or not within > 0:
        raise InvalidInput(f"within={shown(within)}: pass a number of seconds above 0")
    return within
