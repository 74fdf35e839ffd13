"""The AI SDK's UI message stream, version 1: the format that an unmodified `useChat` front end reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, assert_never

from chunkspool.events import (
    DataEvent,
    Entry,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
)
from chunkspool.web.dialects import EVENT_STREAM
from chunkspool.web.dialects.usechat_json import decode_arguments, encode_part

RESTART = "data-chunkspool-restart"
"""Type of the part that marks a restart: everything before the last such part of a message is void."""
DONE = b"data: [DONE]\n\n"
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "refusal": "content-filter",
}

PartKind = Literal["text", "reasoning"]
StreamPart = dict[str, Any]


class OpenPart(NamedTuple):
    """A text or reasoning part that has a start but no end yet."""

    kind: PartKind
    id: str


class UseChatEncoder:
    """Encodes one generation and ignores the chat's other generations.

    Adjacent waiting deltas are merged into one. Unsent output of a superseded attempt is dropped.

    The protocol cannot take anything back: parts only grow, and a second `start` would make a second message. So a
    restart happens inside the message, and how depends on what the client already has. If it has nothing of the old
    attempt, the attempt is removed from the waiting parts. Otherwise the parts that the client saw open are closed, and
    a marker (`RESTART`) tells the front end to ignore everything before it.
    """

    headers: Mapping[str, str] = {
        **EVENT_STREAM,
        "content-type": "text/event-stream",
        "x-vercel-ai-ui-message-stream": "v1",
    }

    def __init__(self, generation_id: str, *, continues_message: bool = False) -> None:
        """`continues_message`: the answer extends the client's last message instead of being a new one."""
        self.done = False
        self.size = 0
        self._generation_id = generation_id
        self._is_new_message = not continues_message
        self._parts: list[StreamPart] = []
        # Deltas of the open part that are not yet in `_parts`.
        self._pieces: list[str] = []
        self._tool_calls: set[str] = set()
        self._opened_parts = 0
        self._has_begun = False
        # The state after the last waiting part.
        self._in_step = False
        self._open: OpenPart | None = None
        # Where the current attempt begins in `_parts`, or None if the client already has its beginning.
        self._attempt_at: int | None = None
        # The same state as the client knows it: after the last part that was taken.
        self._client_in_step = False
        self._client_open: OpenPart | None = None

    def add(self, entry: Entry) -> None:
        """Add an entry of the chat."""
        if entry.generation_id != self._generation_id or self.done:
            return
        self.size += len(entry.raw)
        self._begin_message()
        self._encode(entry.event)

    def add_corrupt(self, seq: int) -> None:
        """Add a notice that an entry cannot be decoded: a data part, which the front end may show."""
        self._add_part({"type": "data-chunkspool-corrupt", "data": {"seq": seq}})

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Add the reason why the stream ends early: the SDK's `error`."""
        self._fail(str(document.get("detail") or document.get("title")))

    def take(self) -> bytes:
        """Return all that is waiting, and forget it."""
        self._flush_pieces()
        taken = b"".join(b"data: %b\n\n" % encode_part(part) for part in self._parts)
        if self.done and taken:
            taken += DONE
        self._parts.clear()
        self.size = 0
        self._attempt_at = None
        self._client_in_step, self._client_open = self._in_step, self._open
        return taken

    def _encode(self, event: Event) -> None:  # noqa: C901 - one case per type is what a match is for
        match event:
            case GenerationQueued() | UnknownEvent():
                return
            case GenerationStarted():
                self._start_attempt(event)
            case TextDelta():
                self._add_delta("text", event.text)
            case ReasoningDelta():
                self._add_delta("reasoning", event.text)
            case ToolCallEvent():
                self._add_tool_call(event)
            case ToolResultEvent():
                self._add_tool_result(event)
            case DataEvent():
                self._add_part({"type": f"data-{event.name}", "data": event.value})
            case UsageEvent():
                self._add_metadata({"usage": {"inputTokens": event.input_tokens, "outputTokens": event.output_tokens}})
            case GenerationCompleted():
                self._complete(event)
            case GenerationStopped():
                self._abort(event)
            case GenerationFailed():
                self._close_part()
                self._add_metadata({"failed": {"code": event.code, "retryable": event.retryable}})
                self._fail(event.message)
            case _:
                assert_never(event)

    def _begin_message(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        start: StreamPart = {"type": "start"}
        if self._is_new_message:
            start["messageId"] = self._generation_id
        self._add_part({**start, "messageMetadata": {"generation": self._generation_id}})

    def _start_attempt(self, event: GenerationStarted) -> None:
        metadata: StreamPart = {"attempt": event.attempt, "model": event.model}
        if event.attempt > 1 and not event.continues:
            self._void_attempt()
            self._add_part({"type": RESTART, "id": f"restart-{event.attempt}", "data": {"attempt": event.attempt}})
            metadata["usage"] = None
        if not self._in_step:
            # Behind the marker: if this attempt is superseded before it is sent, the marker must stay.
            self._flush_pieces()
            self._attempt_at = len(self._parts)
            self._add_part({"type": "start-step"})
            self._in_step = True
        self._add_metadata(metadata)

    def _void_attempt(self) -> None:
        """Drop the unsent output of the earlier attempt; close what the client has of it."""
        self._pieces.clear()
        if self._attempt_at is None:
            # The client has the attempt's beginning. All that waits belongs to the attempt, except a `start`.
            self._parts = self._parts[:1] if self._parts and self._parts[0]["type"] == "start" else []
            # Back to what the client knows: only that can be, and must be, closed.
            self._open, self._in_step = self._client_open, self._client_in_step
            self._close_step()
        else:
            # The whole attempt is unsent, so the client never learns of it.
            del self._parts[self._attempt_at :]
            self._open, self._in_step = None, False
        self._tool_calls.clear()

    def _add_delta(self, kind: PartKind, text: str) -> None:
        if self._open is None or self._open.kind != kind:
            self._close_part()
            # Counted over all attempts: a message must not have two parts with one id.
            self._opened_parts += 1
            self._open = OpenPart(kind, f"{kind}-{self._opened_parts}")
            self._add_part({"type": f"{kind}-start", "id": self._open.id})
        self._pieces.append(text)

    def _add_tool_call(self, event: ToolCallEvent) -> None:
        self._close_part()
        self._tool_calls.add(event.id)
        call: StreamPart = {"toolCallId": event.id, "toolName": event.name}
        try:
            arguments = decode_arguments(event.arguments)
        except ValueError:
            error = "The model wrote arguments that are not JSON, or that a browser cannot take."
            self._add_part({"type": "tool-input-error", **call, "input": event.arguments, "errorText": error})
        else:
            self._add_part({"type": "tool-input-available", **call, "input": arguments})

    def _add_tool_result(self, event: ToolResultEvent) -> None:
        # The SDK aborts the whole stream at a result whose call it does not know.
        if event.id in self._tool_calls:
            self._add_part({"type": "tool-output-available", "toolCallId": event.id, "output": event.output})

    def _complete(self, event: GenerationCompleted) -> None:
        self._close_step()
        self._add_part({"type": "finish", "finishReason": _FINISH_REASONS.get(event.finish_reason, "other")})
        self.done = True

    def _abort(self, event: GenerationStopped) -> None:
        # The SDK does not pass `abort` on to the app, so the metadata of the message has the stop as well.
        self._close_part()
        self._add_metadata({"stopped": {"by": event.by, "reason": event.reason}})
        self._close_step()
        self._add_part({"type": "abort", **({"reason": event.reason} if event.reason else {})})
        self.done = True

    def _fail(self, message: str) -> None:
        self._close_part()
        self._add_part({"type": "error", "errorText": message})
        self.done = True

    def _close_step(self) -> None:
        self._close_part()
        if self._in_step:
            self._add_part({"type": "finish-step"})
            self._in_step = False

    def _close_part(self) -> None:
        self._flush_pieces()
        if self._open is not None:
            kind, part_id = self._open
            self._open = None
            self._add_part({"type": f"{kind}-end", "id": part_id})

    def _add_metadata(self, metadata: Mapping[str, object]) -> None:
        self._add_part({"type": "message-metadata", "messageMetadata": metadata})

    def _add_part(self, part: StreamPart) -> None:
        # The deltas before it first, or the order would change.
        self._flush_pieces()
        self._parts.append(part)

    def _flush_pieces(self) -> None:
        """Merge the waiting deltas of the open part into one."""
        if self._pieces and self._open is not None:
            kind, part_id = self._open
            self._parts.append({"type": f"{kind}-delta", "id": part_id, "delta": "".join(self._pieces)})
            self._pieces.clear()
