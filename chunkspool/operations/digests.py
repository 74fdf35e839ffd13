"""Reads a whole chat: stored blocks for what is old, the log for what is new. Without I/O.

A log only grows, so what is written in it never changes, whether or not a generation has ended. Whoever reads past a
block's worth of new events stores the block, so that nobody reads these events again.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Final

from chunkspool.effects import Operation, Pause
from chunkspool.errors import ChatContended, CorruptLog, CursorExpired, DigestUnfinished, InvalidInput, shown
from chunkspool.events import Entry
from chunkspool.operations.digest_making import MOST_ENTRIES, Behind, Changed, Making, find_chain
from chunkspool.store import blocks, digests
from chunkspool.store.blocks import Block, BlockBuilder, unpack
from chunkspool.store.digests import Digest, DigestPart
from chunkspool.store.keys import ChatKeys
from chunkspool.store.pages import page_after
from chunkspool.store.positions import Position, checked_position

RACES: Final = 20
"""How often a reader begins again because the chat changed under it, or because another one was faster."""
POLL_SECONDS: Final = 0.2
"""How often a reader looks how far another one has come; a block takes much less."""
FEW: Final = 4
"""So many blocks a reader rather makes itself than wait for the one who is faster."""
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
        chain = yield from find_chain(keys)
        reached = chain.blocks[-1].last if chain.blocks else 0
        is_far = kept.last - reached > FEW * blocks.BLOCK_EVENTS
        if is_far and other_reached is not None and reached > other_reached:
            # Another reader does the same work, and comes further: two of them would only do it twice.
            if time.monotonic() > late_at:
                raise DigestUnfinished(keys.chat_id, reached, kept.last)
            other_reached = reached
            yield from Pause(POLL_SECONDS)
            continue
        races += 1
        making = Making(keys, kept, chain, late_at, needed, distrusted=distrusted, stores=races < RACES)
        try:
            return (yield from making.run())
        except Behind:
            other_reached = reached
        except Changed:
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


def _fetch(digest: Digest, wanted: list[Block]) -> Operation[dict[int, bytes | None]]:
    if not wanted:
        return {}
    try:
        found = yield from digests.stored_blocks(digest.keys, digest.chain, wanted)
    except CorruptLog:
        return {}
    return {block.last: value for block, value in zip(wanted, found, strict=True)}


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
