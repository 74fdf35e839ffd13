"""Assembles the chunks of a chat completion into deltas; pure, and lenient about what servers add or leave out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, Reasoning, Text, ToolCall, Usage
from tasks.providers.failures import Code, code_of, failure, safe_names

DONE = b"[DONE]"
_NOTHING: dict[str, Any] = {}
_STATUS = re.compile(r"[45]\d\d")


@dataclass(slots=True)
class _OpenCall:
    """A tool call whose arguments are still arriving."""

    index: Any
    id: str
    name: str = ""
    arguments: str = ""


class ChunkAssembler:
    """Assembles one answer from its chunks, fed in order."""

    def __init__(self) -> None:
        """No chunk has arrived yet."""
        self.finished = False
        """Whether a finish reason has arrived: the answer is complete."""
        self.done = False
        """Whether the server has announced the end of the stream."""
        self._calls: list[_OpenCall] = []
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> list[Delta]:
        """Return the deltas of a chunk, which is the data of one event. Raises `ProviderError`."""
        if chunk == DONE:
            self.done = True
            return []
        decoded = _decode(chunk)
        if error := decoded.get("error"):
            raise _error_of(_object(error))
        if usage := decoded.get("usage"):
            self._usage = _usage_of(usage)
        return [delta for choice in _objects(decoded.get("choices")) for delta in self._read_choice(choice)]

    def end(self) -> list[Delta]:
        """Return the deltas that are complete only now. Raises `ProviderError` for an answer that was cut off."""
        # Some servers send no finish reason, others no [DONE]. An answer with neither may be half a one.
        if not self.finished and not self.done:
            raise failure(Code.TRUNCATED)
        # Some servers send usage with every chunk; only the last one counts.
        return [*self._close_calls(), *([self._usage] if self._usage else [])]

    def _read_choice(self, choice: Mapping[str, Any]) -> list[Delta]:
        if choice.get("index"):
            return []  # params may ask for several answers, but a generation is one
        deltas: list[Delta] = []
        delta = _object(choice.get("delta"))
        # Some servers fill both names with the same text.
        if reasoning := _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")):
            deltas.append(Reasoning(reasoning))
        # A model that refuses says so here, instead of in `content`.
        if text := _text(delta.get("content")) or _text(delta.get("refusal")):
            deltas.append(Text(text))
        if calls := delta.get("tool_calls"):
            self._extend_calls(calls)
        if reason := _text(choice.get("finish_reason")):
            deltas += [*self._close_calls(), Finish(reason)]
            self.finished = True
        return deltas

    def _extend_calls(self, pieces: object) -> None:
        for piece in _objects(pieces):
            call = self._find_or_open_call(piece)
            function = _object(piece.get("function"))
            call.name = call.name or _text(function.get("name"))
            arguments = function.get("arguments")
            # Some servers send the arguments as JSON values, not as their text.
            call.arguments += arguments if isinstance(arguments, str) else _json(arguments)

    def _find_or_open_call(self, piece: Mapping[str, Any]) -> _OpenCall:
        """Return the call that a piece belongs to: the one with its index, unless the ids differ."""
        index, its_id = piece.get("index"), _text(piece.get("id"))
        for call in reversed(self._calls):
            # Some servers send no index, or the same one for all calls: then only the id tells the calls apart.
            if call.index == index and its_id in ("", call.id):
                return call
        self._calls.append(_OpenCall(index, its_id or f"call_{len(self._calls)}"))
        return self._calls[-1]

    def _close_calls(self) -> list[Delta]:
        # Not before the end: pieces of several calls may alternate, so none is complete until all are.
        calls, self._calls = self._calls, []
        return [ToolCall(call.id, call.name, call.arguments) for call in calls]


def _decode(chunk: bytes) -> dict[str, Any]:
    try:
        decoded = from_json(chunk)
    except ValueError:
        decoded = _decode_leniently(chunk)
    if not isinstance(decoded, dict):
        raise failure(Code.MALFORMED_RESPONSE)
    return decoded


def _decode_leniently(chunk: bytes) -> object:
    # Models may split a character between two tokens, and then some servers escape each half of its surrogate pair.
    # pydantic's fast decoder rejects such halves, Python's accepts them.
    try:
        return json.loads(chunk)
    except (ValueError, RecursionError):
        return None


def _error_of(error: Mapping[str, Any]) -> ProviderError:
    """Return what an error means that a server sends in mid-stream, after it has answered with status 200."""
    code, kind = error.get("code"), error.get("type")
    status = int(str(code)) if _STATUS.fullmatch(str(code)) else None
    details = [f"HTTP {status}"] if status else []
    return failure(code_of(status, (code, kind)), *details, *safe_names(code, kind))


def _usage_of(usage: object) -> Usage:
    fields = _object(usage)
    return Usage(_count(fields.get("prompt_tokens")), _count(fields.get("completion_tokens")))


def _count(value: object) -> int:
    return max(0, value) if isinstance(value, int) else 0


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _NOTHING


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _json(value: object) -> str:
    return "" if value is None else to_json(value).decode()
