"""Reads all generations of a chat in steps: there may be thousands, and while Redis replies it serves nobody else."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, TypeVar

from chunkspool.results import GenerationStatus, Transcript
from chunkspool.store import queries
from chunkspool.store.commands import Transaction, as_text
from chunkspool.store.keys import ChatKeys

T = TypeVar("T")
IDS: Final = 500
HASHES: Final = 100
"""Ids, and generations, that one step reads: a millisecond of Redis at most."""


def list_ids(keys: ChatKeys, active: Sequence[str] = ()) -> Generator[Any, Any, list[str]]:
    """Return the ids of the chat's generations and those of `active`, in the order of their making."""
    found = dict.fromkeys(active)
    score, at_score = "-inf", 0
    while True:
        # By score and not by place: while we read, the first ones expire and the others move up.
        page = yield from _ids_from(keys, score, at_score)
        found.update(dict.fromkeys(each_id for each_id, _ in page))
        if len(page) < IDS:
            return sorted(found)
        last = page[-1][1]
        same = sum(each == last for _, each in page)
        score, at_score = last, same + (at_score if last == score else 0)


def read_statuses(keys: ChatKeys, generation_ids: Sequence[str]) -> Generator[Any, Any, list[GenerationStatus]]:
    """Return how these generations stand; one that has expired is left out."""
    return (yield from _in_steps(generation_ids, lambda some: queries.statuses(keys, some)))


def read_transcripts(keys: ChatKeys, generation_ids: Sequence[str]) -> Generator[Any, Any, list[Transcript]]:
    """Return the transcripts that these generations hold."""
    return (yield from _in_steps(generation_ids, lambda some: queries.transcripts(keys, some)))


def _in_steps(
    generation_ids: Sequence[str], read: Callable[[Sequence[str]], Transaction[list[T]]]
) -> Generator[Any, Any, list[T]]:
    found: list[T] = []
    for start in range(0, len(generation_ids), HASHES):
        found += yield from read(generation_ids[start : start + HASHES])
    return found


def _ids_from(keys: ChatKeys, score: str, offset: int) -> Transaction[list[tuple[str, str]]]:
    """Read the next ids with their scores."""

    def parse(replies: Sequence[Any]) -> list[tuple[str, str]]:
        (found,) = replies
        # RESP3 brings pairs, RESP2 a flat list.
        pairs = found if found and isinstance(found[0], (list, tuple)) else zip(found[::2], found[1::2], strict=True)
        return [(as_text(name), f"{float(score):.0f}") for name, score in pairs]

    page = ("ZRANGEBYSCORE", keys.gens, score, "+inf", "WITHSCORES", "LIMIT", offset, IDS)
    return Transaction((page,), parse)
