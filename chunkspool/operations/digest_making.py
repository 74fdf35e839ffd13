"""Reads a log from the end of its digest on, and stores what it reads as further blocks. Without I/O."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from typing import Final

from chunkspool.effects import Operation
from chunkspool.errors import ChatNotFound, CorruptLog, CursorAhead, CursorExpired, DigestUnfinished, StoreError
from chunkspool.store import digests, queries
from chunkspool.store.blocks import Block, BlockBuilder
from chunkspool.store.digests import Chain, Digest, Extent
from chunkspool.store.entries import Unreadable
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import Page, entries_that_fit, page_after
from chunkspool.store.positions import Position

FIRST_PAGE: Final = 100
MOST_ENTRIES: Final = 500
PAGE_BYTES: Final = 128 * 1024
"""Entries of the first read, and what a later one is meant to hold: a few milliseconds of an event loop."""
NEAR: Final = 20_000
"""Events behind the stored blocks that are read although only later ones are needed, so that the blocks go on."""
HELD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of blocks that a reader keeps where they cannot be stored; of further ones, the log is read a second time."""


class Changed(Exception):
    """The log is not the one in which the reader stood."""


class Behind(Exception):
    """Another reader has stored the block."""


class Making:
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
        self._held_bytes = 0
        self._position = chain.end if is_used else Position(start)
        self._builder = BlockBuilder(self._position.seq + 1)
        self._first = kept.first
        self._has_gaps = not kept.is_whole
        self._has_unreadable = False
        self.is_at_chain = is_used
        """Whether nothing was read yet behind the stored blocks: if they do not fit to the log, they are to blame."""

    @property
    def seq(self) -> int:
        """Up to where everything has been read."""
        return self._position.seq

    def run(self) -> Operation[Digest]:
        """Read to the end of the log. Raises `Changed`, `Behind` or `DigestUnfinished`."""
        limit = FIRST_PAGE
        while True:
            try:
                page = yield from page_after(self._keys, self._position, limit)
            except CursorAhead:
                raise Changed from None
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

    def store(self, at_least: int) -> Operation[bool]:
        """Read and store one block after the other, while so many events or more are new. Raises `Changed` or `Behind`.

        False: there was no time for all. What cannot be stored is left to the readers.
        """
        limit = FIRST_PAGE
        while self._stores:
            try:
                page = yield from page_after(self._keys, self._position, limit)
            except (CursorAhead, CursorExpired):
                raise Changed from None
            except (ChatNotFound, CorruptLog):
                return True
            self._take(page)
            left = page.last - self._position.seq
            if self._builder.is_full:
                yield from self._end_block()
                self._blocks.clear()
                if left >= at_least and time.monotonic() > self._late_at:
                    return False
            if left < (at_least if self._builder.is_empty else 1):
                return True
            limit = entries_that_fit(page.entries, PAGE_BYTES, MOST_ENTRIES)
        return True

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
            raise Changed
        self._stores = False
        self._has_gaps = True
        self._position = Position(gap.first - 1)

    def _end_block(self) -> Operation[None]:
        block = self._builder.build()
        if self._stores:
            name = self._chain or secrets.token_hex(6)
            outcome = yield from self._store(block, name)
            if outcome == "behind":
                raise Behind
            if outcome == "added":
                self._chain = self._seen = name
                block = replace(block, plain=None)
            else:
                self._stores = False  # what is wrong with the log, if anything, the next page tells
        self._blocks.append(self._hold(block))
        self._builder = BlockBuilder(self._position.seq + 1)

    def _hold(self, block: Block) -> Block:
        """Return the block without what it holds, if that would be too much and the log can be read again."""
        self._held_bytes += 0 if block.plain is None else block.size
        is_rereadable = bool(self._log) and not self._has_gaps
        return replace(block, plain=None) if is_rereadable and self._held_bytes > HELD_BYTES else block

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


def find_chain(keys: ChatKeys) -> Operation[Chain]:
    """Return the blocks that are stored, whatever log they are of."""
    try:
        return (yield from digests.chain(keys))
    except CorruptLog:
        return Chain()  # another program's key: as good as none
