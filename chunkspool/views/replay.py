"""Replay: what exists of one generation, merged, for an encoder."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from chunkspool.dialects import Encoder
from chunkspool.errors import CorruptLog
from chunkspool.events import Entry
from chunkspool.store.digests import Digest, DigestPart
from chunkspool.store.positions import checked_position
from chunkspool.views.calls import SpoolCall

MAX_WAITING_BYTES = 128 * 1024
"""How much may wait for a slow client before a stream stops reading from the chat."""
PAGE_SIZE = 500


@dataclass(frozen=True, slots=True)
class SendWaiting:
    """Send what waits in the encoder before anything else is done; a heartbeat where nothing waits, if it `beats`."""

    beats: bool = False


ReplayStep = SpoolCall[Any] | SendWaiting


def replay(
    encoder: Encoder, chat_id: str, after: int | str, generation_id: str, *, within: float | None = None
) -> Generator[ReplayStep, Any, int | str]:
    """Add what exists of the generation behind `after`; return the cursor of the last entry.

    Of what a restart has made void, nothing is sent. `within`: how long the chat may be read, in seconds.
    """
    digest = yield from SpoolCall[Digest](
        lambda spool: spool.digest(chat_id, after=after, within=within), reads_whole=True
    )
    if digest.has_unreadable or digest.has_gaps or digest.first > checked_position(after).seq + 1:
        return (yield from _replay_the_log(encoder, chat_id, after))
    # What a restart has made void is not for the client: until the newest restart was added, nothing is sent. It is
    # in the block before `settled`, so that all of the blocks before that one is void.
    settled = digest.restarts_until(generation_id)
    at = max(settled - 1, 0) if digest.blocks else None
    while at is not None and not encoder.done:
        part = yield from _load(digest, generation_id, at)
        for entry in part.entries:
            encoder.add(entry)
        at = part.next
        if at is not None and at >= settled and encoder.size > MAX_WAITING_BYTES:
            yield SendWaiting()
    return digest.cursor


def _load(digest: Digest, generation_id: str, at: int) -> SpoolCall[DigestPart]:
    return SpoolCall(lambda spool: spool.load_digest(digest, {generation_id}, at))


def _replay_the_log(encoder: Encoder, chat_id: str, after: int | str) -> Generator[ReplayStep, Any, int | str]:
    """Do the same page by page: what is missing is an error, and what cannot be decoded is told in its place."""
    while not encoder.done:
        try:
            page = yield from _read(chat_id, after)
        except CorruptLog as error:
            if error.seq is None:
                raise
            encoder.add_corrupt(error.seq)
            after = error.seq
            continue
        for entry in page:
            encoder.add(entry)
        after = page[-1].seq if page else after
        if len(page) < PAGE_SIZE:
            break
    return after


def _read(chat_id: str, after: int | str) -> SpoolCall[list[Entry]]:
    return SpoolCall(lambda spool: spool.read(chat_id, after, PAGE_SIZE))
