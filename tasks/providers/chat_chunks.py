"""Turns the chunks of a chat completion into deltas; pure, and lenient about what servers add or leave out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, Reasoning, Text, ToolCall, Usage
from tasks.providers.failures import Code, code_of, failure, shown

DONE = b"[DONE]"
_NOTHING: dict[str, Any] = {}
_STATUS = re.compile(r"[45]\d\d")


@dataclass(slots=True)
class _OpenCall:
    """A tool call whose arguments still grow."""

    index: Any
    id: str
    name: str = ""
    arguments: str = ""


class Answer:
    """One answer, fed with its chunks in their order."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.finished = False
        """Whether the model has said why it ended: what was said until then is the whole answer."""
        self.done = False
        """Whether the server has said that nothing more comes."""
        self._calls: list[_OpenCall] = []
        self._usage: Usage | None = None

    def feed(self, chunk: bytes) -> list[Delta]:
        """Return what a chunk (the data of one event) says. Raises `ProviderError`."""
        if chunk == DONE:
            self.done = True
            return []
        decoded = _decoded(chunk)
        if error := decoded.get("error"):
            raise _reported(_object(error))
        if usage := decoded.get("usage"):
            self._usage = _usage(usage)
        return [delta for choice in _objects(decoded.get("choices")) for delta in self._said(choice)]

    def end(self) -> list[Delta]:
        """Return what can be said only now. Raises `ProviderError` for an answer that broke off."""
        if not self.finished and not self.done:
            raise failure(Code.TRUNCATED)
        # Some servers send usage with every chunk, and only the last one counts.
        return [*self._closed_calls(), *([self._usage] if self._usage else [])]

    def _said(self, choice: Mapping[str, Any]) -> list[Delta]:
        if choice.get("index"):
            return []  # params may ask for several answers; a generation is one
        said: list[Delta] = []
        delta = _object(choice.get("delta"))
        # Some servers fill both names with the same text.
        if reasoning := _text(delta.get("reasoning_content")) or _text(delta.get("reasoning")):
            said.append(Reasoning(reasoning))
        # A refusal is what the model says instead.
        if text := _text(delta.get("content")) or _text(delta.get("refusal")):
            said.append(Text(text))
        if calls := delta.get("tool_calls"):
            self._grow(calls)
        if reason := _text(choice.get("finish_reason")):
            said += [*self._closed_calls(), Finish(reason)]
            self.finished = True
        return said

    def _grow(self, pieces: object) -> None:
        for piece in _objects(pieces):
            call = self._call(piece)
            function = _object(piece.get("function"))
            call.name = call.name or _text(function.get("name"))
            arguments = function.get("arguments")
            call.arguments += arguments if isinstance(arguments, str) else _json(arguments)

    def _call(self, piece: Mapping[str, Any]) -> _OpenCall:
        """Return the call that a piece belongs to: the one of its index, unless it has another id."""
        index, its_id = piece.get("index"), _text(piece.get("id"))
        for call in reversed(self._calls):
            # Without an index, or with the same one for all calls, only the id tells them apart.
            if call.index == index and its_id in ("", call.id):
                return call
        self._calls.append(_OpenCall(index, its_id or f"call_{len(self._calls)}"))
        return self._calls[-1]

    def _closed_calls(self) -> list[Delta]:
        # Only at the end: pieces of several calls may come in turns.
        calls, self._calls = self._calls, []
        return [ToolCall(call.id, call.name, call.arguments) for call in calls]


def _decoded(chunk: bytes) -> dict[str, Any]:
    try:
        decoded = from_json(chunk)
    except ValueError:
        decoded = _leniently(chunk)
    if not isinstance(decoded, dict):
        raise failure(Code.MALFORMED_RESPONSE)
    return decoded


def _leniently(chunk: bytes) -> object:
    """Decode half a surrogate pair, too: models split a character between tokens."""
    try:
        return json.loads(chunk)
    except (ValueError, RecursionError):
        return None


def _reported(error: Mapping[str, Any]) -> ProviderError:
    """Return the error that a server reports in mid-stream."""
    code, kind = error.get("code"), error.get("type")
    status = int(str(code)) if _STATUS.fullmatch(str(code)) else None
    details = [f"HTTP {status}"] if status else []
    return failure(code_of(status, (code, kind)), *details, *shown(code, kind))


def _usage(usage: object) -> Usage:
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
