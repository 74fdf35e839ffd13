"""A snapshot as JSON, in pieces: megabytes in one go would keep everybody else of the event loop waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter

from chunkspool.fold import Answer, ToolUse
from chunkspool.results import Snapshot

PIECE_BYTES: Final = 128 * 1024
"""Bytes that are gathered before they are sent; a text is cut into as many characters."""
ITEMS: Final = 100
"""Tool calls, or data events, that are encoded in one go."""
_SNAPSHOT: Final = TypeAdapter(Snapshot)
_ANSWER: Final = TypeAdapter(Answer)
_TEXT: Final = TypeAdapter(str)
_CALLS: Final = TypeAdapter(tuple[ToolUse, ...])
_DATA: Final = TypeAdapter(tuple[tuple[str, Any], ...])


async def send_in_turns(snapshot: Snapshot) -> AsyncIterator[bytes]:
    """Yield the snapshot in pieces, and let others have their turn after each."""
    gathered: list[bytes] = []
    size = 0
    for piece in encode_snapshot(snapshot):
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
            await asyncio.sleep(0)
    yield b"".join(gathered)


def encode_snapshot(snapshot: Snapshot) -> Iterator[bytes]:
    """Yield what pydantic would write, byte for byte, in pieces."""
    # No text can contain one of these gaps: JSON escapes its quotes.
    before, gap, behind = _dump(_SNAPSHOT, replace(snapshot, answers=())).partition(b'"answers":[]')
    yield before + gap[:-1]
    for at, answer in enumerate(snapshot.answers):
        if at:
            yield b","
        yield from _encode_answer(answer)
    yield gap[-1:] + behind


def _encode_answer(answer: Answer) -> Iterator[bytes]:
    rest = _dump(_ANSWER, replace(answer, text="", reasoning="", tool_calls=(), data=()))
    fields = (
        (b'"text":""', _encode_text(answer.text)),
        (b'"reasoning":""', _encode_text(answer.reasoning)),
        (b'"tool_calls":[]', _encode_items(_CALLS, answer.tool_calls)),
        (b'"data":[]', _encode_items(_DATA, answer.data)),
    )
    for field, pieces in fields:
        before, gap, rest = rest.partition(field)
        yield before + gap[:-1]
        yield from pieces
        yield gap[-1:]
    yield rest


def _encode_text(text: str) -> Iterator[bytes]:
    for start in range(0, len(text), PIECE_BYTES):
        yield _dump(_TEXT, text[start : start + PIECE_BYTES])[1:-1]


def _encode_items(adapter: TypeAdapter[Any], items: Sequence[Any]) -> Iterator[bytes]:
    for start in range(0, len(items), ITEMS):
        if start:
            yield b","
        yield _dump(adapter, tuple(items[start : start + ITEMS]))[1:-1]


def _dump(adapter: TypeAdapter[Any], value: object) -> bytes:
    return adapter.dump_json(value, by_alias=True)
