"""Folds a chat, or some of its generations, from its digest. Without I/O."""

from __future__ import annotations

from collections.abc import Collection

from chunkspool.effects import Operation
from chunkspool.fold import Answer, Folding
from chunkspool.operations.digests import load_part, make_digest
from chunkspool.store.digests import Digest
from chunkspool.store.keys import ChatKeys


def fold_answers(keys: ChatKeys, generation_ids: Collection[str]) -> Operation[tuple[Answer, ...]]:
    """Fold these generations; those that the log does not have are left out. Raises `ChatNotFound`."""
    digest = yield from make_digest(keys)
    there = {one for one, _ in digest.generations()}
    wanted = there.intersection(generation_ids)
    return (yield from fold_digest(digest, wanted)) if wanted else ()


def fold_digest(digest: Digest, generation_ids: Collection[str] | None) -> Operation[tuple[Answer, ...]]:
    """Fold these generations of the digest, None: all. Raises `CursorExpired` or `CursorAhead` if the log is gone."""
    folding, at = Folding(), 0 if digest.blocks else None
    while at is not None:
        part = yield from load_part(digest, generation_ids, at)
        for entry in part.entries:
            folding.add(entry.event)
        at = part.next
    return folding.answers()
