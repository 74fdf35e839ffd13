"""What a flush is to whoever observes, by its batches and Redis's replies, before anybody else hears of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from chunkspool.errors import ChunkspoolError, Fenced, LimitExceeded, StoreFull, StoreUnavailable
from chunkspool.observer import (
    AttemptFenced,
    FirstChunkWritten,
    Flushed,
    GenerationEnded,
    LimitHit,
    Observation,
    Retried,
)
from chunkspool.producing.buffer import Batch
from chunkspool.producing.outbox import Outbox
from chunkspool.states import ENDED
from chunkspool.store.scripts import AppendReply

Work = Sequence[tuple[Outbox, Batch | None]]
Replies = Sequence[AppendReply | ChunkspoolError]
_NO_LONGER_OURS: Final = frozenset({"fenced", "ended"})
_NO_CHUNK: Final = (b'{"type":"usage"', b'{"type":"generation.')


def report_flush(work: Work, replies: Replies, began: float, now: float) -> Iterator[Observation]:
    """Yield what happened in one pipeline, which took from `began` to `now`."""
    written: list[tuple[bytes, ...]] = []
    gaps: list[float] = []
    has_replied = has_failed = False
    for (outbox, batch), reply in zip(work, replies, strict=True):
        if not isinstance(reply, AppendReply):
            has_failed = has_failed or isinstance(reply, StoreUnavailable | StoreFull)
            continue
        has_replied = True
        if reply.outcome != "ok":
            if reply.outcome in _NO_LONGER_OURS and isinstance(outbox.loss_by(reply), Fenced):
                yield AttemptFenced()
        elif batch is not None:
            written.append(batch.events)
            pace = outbox.pace
            if batch.ending is None and pace.newest is not None:  # the usual case, hundreds of times a second
                gaps.append(now - pace.newest)
                pace.newest = now
            else:
                yield from _report_first_or_last(outbox, batch, reply, gaps, now)
    if has_replied:
        # In one go, because there may be thousands.
        yield Flushed(now - began, Counter(map(len, chain.from_iterable(written))), tuple(gaps))
    if has_failed:
        yield Retried("redis")


def _report_first_or_last(
    outbox: Outbox, batch: Batch, reply: AppendReply, gaps: list[float], now: float
) -> Iterator[Observation]:
    pace = outbox.pace
    if not all(event.startswith(_NO_CHUNK) for event in batch.events):
        if pace.newest is not None:
            gaps.append(now - pace.newest)
        else:
            pace.first = now
            if pace.awaits_first:
                yield FirstChunkWritten(pace.age_at(now))
        pace.newest = now
    if batch.ending is not None and reply.status in ENDED:
        yield from _report_ending(outbox, reply, now)


def _report_ending(outbox: Outbox, reply: AppendReply, now: float) -> Iterator[Observation]:
    pace = outbox.pace
    lived = pace.age_at(now) if reply.ages.lived is None else reply.ages.lived
    match reply.status:
        case "completed":
            yield GenerationEnded("completed", None, lived, output_per_second=pace.output_per_second(now))
        case "stopped":
            yield GenerationEnded("stopped", None, lived, reply.ages.stopping)
        case _:
            yield GenerationEnded("failed", pace.lost_as or pace.code, lived)
            if isinstance(outbox.interruption, LimitExceeded):
                yield LimitHit(outbox.interruption.limit)
