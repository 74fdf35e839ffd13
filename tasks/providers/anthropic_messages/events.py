"""Assembles the events of a message into deltas; pure.

They are described in https://platform.claude.com/docs/en/build-with-claude/streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Reasoning, SignOfLife, Text, ToolCall, Usage
from chunkspool.tasks.providers.failures import Code, code_of, failure, safe_names
from chunkspool.tasks.providers.finish_reasons import finish_of
from chunkspool.tasks.providers.json_values import count_in, decode_object, json_of, object_in, text_in
from chunkspool.tasks.providers.sse_decoder import ServerEvent

MAX_CHARACTERS = 8 * 1024 * 1024
"""What all open tool calls together may hold. A server that never ends them must not fill the worker's memory."""
MAX_CALLS = 256
_PROGRESS = SignOfLife(progress=True)
_INPUT_FIELDS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""Input tokens are all of these together; each may be left out."""

# In mid-stream an error has no status. These are the documented names; the others are in `failures`.
_CODES = {
    "invalid_request_error": Code.INVALID_REQUEST,
    "request_too_large": Code.INVALID_REQUEST,
    "authentication_error": Code.AUTHENTICATION,
    "permission_error": Code.AUTHENTICATION,
    "billing_error": Code.QUOTA_EXHAUSTED,
    "not_found_error": Code.MODEL_NOT_FOUND,
    "timeout_error": Code.PROVIDER_UNAVAILABLE,
}


@dataclass(slots=True)
class _OpenCall:
    """A block of the type `tool_use` whose input is still arriving."""

    id: str
    name: str
    start: str
    pieces: list[str] = field(default_factory=list)

    def close(self) -> ToolCall:
        """Return the whole call. Raises `ProviderError` if it names no tool."""
        if not self.name:
            raise failure(Code.MALFORMED_RESPONSE, "a tool call without a name")
        # A call without arguments may have no pieces, or empty ones.
        return ToolCall(self.id, self.name, "".join(self.pieces) or self.start or "{}")


class MessageAssembler:
    """Assembles one answer from its events, fed in order. Events and blocks of unknown types are ignored."""

    def __init__(self) -> None:
        """No event has arrived yet."""
        self.finished = False
        """Whether a stop reason has arrived: the answer is complete."""
        self.done = False
        """Whether the server has announced the end of the stream."""
        self._calls: dict[object, _OpenCall] = {}
        self._size = 0
        self._usage: dict[str, int] = {}

    def feed(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event. Raises `ProviderError`."""
        fields = decode_object(event.data) if event.data else {}
        if event.name == b"error" or (fields and fields.get("type") == "error"):
            raise _error_of(object_in((fields or {}).get("error")))
        if fields is None:
            raise failure(Code.MALFORMED_RESPONSE)
        match fields.get("type"):
            case "message_start":
                self._add_usage(object_in(fields.get("message")))
            case "content_block_start":
                yield from self._start_block(fields.get("index"), object_in(fields.get("content_block")))
            case "content_block_delta":
                yield from self._read_delta(fields.get("index"), object_in(fields.get("delta")))
            case "content_block_stop":
                yield from self._close_calls(fields.get("index"))
            case "message_delta":
                self._add_usage(fields)
                yield from self._finish(text_in(object_in(fields.get("delta")).get("stop_reason")))
            case "message_stop":
                self.done = True

    def feed_last(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event that the end of the stream may have cut off: half of one is none."""
        if decode_object(event.data) is not None:
            yield from self.feed(event)

    def end(self) -> list[Delta]:
        """Return the deltas that are complete only now. Raises `ProviderError` for an answer without a stop reason."""
        if not self.finished:
            raise failure(Code.TRUNCATED)
        return self.take_usage()

    def take_usage(self) -> list[Delta]:
        """Return the usage, if there is any; also a failed answer is paid for."""
        usage, self._usage = self._usage, {}
        if not usage:
            return []
        sum_of_input, output = sum(usage.get(name, 0) for name in _INPUT_FIELDS), usage.get("output_tokens", 0)
        return [Usage(sum_of_input, output, cached_tokens=usage.get("cache_read_input_tokens", 0))]

    def _start_block(self, index: object, block: Mapping[str, Any]) -> Iterator[Delta | SignOfLife]:
        match block.get("type"):
            case "text" | "thinking":
                yield from _said(block)
            case "tool_use":
                # A server tool's call (server_tool_use) is none of these: the server itself answers it.
                start = json_of(block.get("input") or None)
                self._grow(len(start))
                self._calls[str(index)] = _OpenCall(text_in(block.get("id")), text_in(block.get("name")), start)
                if len(self._calls) > MAX_CALLS:
                    raise failure(Code.MALFORMED_RESPONSE, "endless tool calls")
                yield _PROGRESS

    def _read_delta(self, index: object, delta: Mapping[str, Any]) -> Iterator[Delta | SignOfLife]:
        if delta.get("type") != "input_json_delta":
            yield from _said(delta)
            return
        piece = text_in(delta.get("partial_json"))
        call = self._calls.get(str(index))
        if call is not None:
            call.pieces.append(piece)
        if piece:
            self._grow(len(piece))
            yield _PROGRESS

    def _close_calls(self, index: object) -> Iterator[Delta]:
        call = self._calls.pop(str(index), None)
        if call is not None:
            yield call.close()

    def _finish(self, reason: str) -> Iterator[Delta]:
        if not reason:
            return
        finish = finish_of(reason)
        # The blocks have been stopped before, unless a gateway left that out.
        for index in list(self._calls):
            yield from self._close_calls(index)
        yield finish
        self.finished = True

    def _grow(self, characters: int) -> None:
        self._size += characters
        if self._size > MAX_CHARACTERS:
            raise failure(Code.MALFORMED_RESPONSE, "endless tool calls")

    def _add_usage(self, holder: Mapping[str, Any]) -> None:
        # The counts of later events are totals, and they may leave out what they do not change.
        given = object_in(holder.get("usage"))
        self._usage |= {name: count_in(given[name]) for name in (*_INPUT_FIELDS, "output_tokens") if given.get(name)}


def _said(fields: Mapping[str, Any]) -> Iterator[Delta]:
    """Yield what a block or a delta says: of the two fields it has one."""
    if thinking := text_in(fields.get("thinking")):
        yield Reasoning(thinking)
    if text := text_in(fields.get("text")):
        yield Text(text)


def _error_of(error: Mapping[str, Any]) -> ProviderError:
    kind = error.get("type")
    code = _CODES.get(kind, code_of(None, (kind,))) if isinstance(kind, str) else Code.PROVIDER_ERROR
    return failure(code, *safe_names(kind))
