"""Assembles the chunks of a chat completion into deltas; pure, and lenient about what servers add or leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from chunkspool.provider import Delta, Reasoning, SignOfLife, Usage
from chunkspool.tasks.providers.chat_completions.content import read_content
from chunkspool.tasks.providers.chat_completions.errors import find_error
from chunkspool.tasks.providers.chat_completions.tool_calls import ToolCallAssembler
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.finish_reasons import finish_of
from chunkspool.tasks.providers.json_values import count_in, decode_object, object_in, objects_in, text_in
from chunkspool.tasks.providers.sse_decoder import ServerEvent

DONE = b"[DONE]"
_PROGRESS = SignOfLife(progress=True)
_LEGACY_CALL = "function_call"
"""The delta's older field for a call, of which there is one at most."""
_FIRST = (None, 0, "0")
_NO_REASON = ("null", "none")
"""Some servers write this into every chunk but the last."""


class ChunkAssembler:
    """Assembles one answer from its chunks, fed in order."""

    def __init__(self) -> None:
        """No chunk has arrived yet."""
        self.finished = False
        """Whether a finish reason has arrived: the answer is complete."""
        self.done = False
        """Whether the server has announced the end of the stream."""
        self._calls = ToolCallAssembler()
        self._usage: Usage | None = None
        self._has_answer = False
        self._has_deltas = False
        self._all_known = True

    def feed(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event. Raises `ProviderError`, after the deltas that came with the failure."""
        if event.data.startswith(DONE):
            self.done = True
            return
        chunk = decode_object(event.data) if event.data else {}
        if chunk is None:
            raise failure(Code.MALFORMED_RESPONSE)
        self._all_known = self._all_known and _is_known(chunk)
        # Params may ask for several answers, but a generation is one.
        choices = [choice for choice in objects_in(chunk.get("choices")) if choice.get("index") in _FIRST]
        self._note_usage(chunk)
        for choice in choices:
            yield from self._read_choice(choice, is_whole=chunk.get("object") == "chat.completion")
        if error := find_error(chunk, choices, event.name):
            raise error
        for choice in choices:
            if (reason := text_in(choice.get("finish_reason"))) and reason not in _NO_REASON:
                finish = finish_of(reason)
                yield from self._calls.close()
                yield finish
                self.finished = True
                self._note_usage(choice)

    def feed_last(self, event: ServerEvent) -> Iterator[Delta | SignOfLife]:
        """Yield the deltas of an event that the end of the stream may have cut off: half of one is none."""
        if event.data.startswith(DONE) or decode_object(event.data) is not None:
            yield from self.feed(event)

    def end(self) -> list[Delta]:
        """Return the deltas that are complete only now. Raises `ProviderError` for an answer that is not complete."""
        # Some servers send no finish reason, others no [DONE]. An answer with neither may be half a one, and so may one
        # in which something was not understood, or which is empty.
        if not self.finished and not (self.done and self._has_answer and self._all_known):
            raise failure(Code.TRUNCATED)
        return [*self._calls.close(), *self.take_usage()]

    def take_usage(self) -> list[Delta]:
        """Return the usage, if there is any; also a failed answer is paid for."""
        # Some servers send usage with every chunk; only the last one counts.
        usage, self._usage = self._usage, None
        return [usage] if usage else []

    def _note_usage(self, holder: Mapping[str, Any]) -> None:
        # Some servers put it into the last choice, or among extensions of their own.
        if usage := holder.get("usage") or object_in(holder.get("x_groq")).get("usage"):
            self._usage = _usage_of(usage)

    def _read_choice(self, choice: Mapping[str, Any], *, is_whole: bool) -> list[Delta | SignOfLife]:
        said = self._read_part(object_in(choice.get("delta")))
        self._has_deltas = self._has_deltas or bool(said)
        # Some servers send a message instead of a delta; others repeat the whole answer at its end.
        if "message" in choice and not (self._has_deltas or (is_whole and self._has_answer)):
            said += self._read_part(object_in(choice["message"]))
        if "text" in choice:  # as in the older completions
            said += self._read_part({"content": text_in(choice["text"])})
        return said

    def _read_part(self, part: Mapping[str, Any]) -> list[Delta | SignOfLife]:
        said: list[Delta | SignOfLife] = [*read_content(part)]
        pieces = objects_in(part.get("tool_calls"))
        if legacy := object_in(part.get(_LEGACY_CALL)):
            pieces = [*pieces, {"index": _LEGACY_CALL, "function": legacy}]
        if pieces and self._calls.add(pieces):
            said.append(_PROGRESS)
        self._has_answer = self._has_answer or any(not isinstance(one, Reasoning) for one in said)
        return said


def _is_known(chunk: Mapping[str, Any]) -> bool:
    is_chunk = (
        isinstance(chunk.get("choices"), list)
        or bool(chunk.get("usage"))
        or chunk.get("object") == "chat.completion.chunk"
    )
    return is_chunk or not chunk or chunk.get("type") == "ping"


def _usage_of(usage: object) -> Usage:
    fields = object_in(usage)
    return Usage(
        count_in(fields.get("prompt_tokens")),
        count_in(fields.get("completion_tokens")),
        cached_tokens=count_in(object_in(fields.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=count_in(object_in(fields.get("completion_tokens_details")).get("reasoning_tokens")),
    )
