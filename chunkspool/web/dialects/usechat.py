"""The AI SDK's UI message stream, version 1: what an unmodified `useChat` front end reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, assert_never

from pydantic_core import from_json, to_json

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

RESTART = "data-chunkspool-restart"
"""Type of the part that stands where an attempt began anew: what a message has in front of its last one is void."""
DONE = b"data: [DONE]\n\n"
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}

Kind = Literal["text", "reasoning"]
Part = dict[str, Any]


class OpenPart(NamedTuple):
    """A text or reasoning part that has a start and no end yet."""

    kind: Kind
    id: str


class UseChat:
    """Encodes one generation; what other generations of the chat say is passed over.

    Adjacent deltas that wait become one. Of an attempt that is void before it was taken, nothing is sent at all.
    """

    headers: Mapping[str, str] = {
        **EVENT_STREAM,
        "content-type": "text/event-stream",
        "x-vercel-ai-ui-message-stream": "v1",
    }

    def __init__(self, generation_id: str, *, continues_message: bool = False) -> None:
        """`continues_message`: the answer goes on in the client's last message, instead of being a new one."""
        self.done = False
        self.size = 0
        self._generation = generation_id
        self._new_message = not continues_message
        self._parts: list[Part] = []
        self._pieces: list[str] = []
        self._calls: set[str] = set()
        self._count = 0
        self._begun = False
        self._in_step = False
        self._open: OpenPart | None = None
        # Where in `_parts` the attempt begins, or None: then the client has its beginning.
        self._attempt_at: int | None = None
        # What of the attempt the client knows.
        self._client_in_step = False
        self._client_open: OpenPart | None = None

    def add(self, entry: Entry) -> None:
        """Take an entry of the chat."""
        if entry.generation_id != self._generation or self.done:
            return
        self.size += len(entry.raw)
        self._begin()
        self._say(entry.event)

    def add_corrupt(self, seq: int) -> None:
        """Take the news that an entry cannot be decoded: a part for the app to show, or not."""
        self._put({"type": "data-chunkspool-corrupt", "data": {"seq": seq}})

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Take what ends the stream too early: the SDK's `error`."""
        self._fail(str(document.get("detail") or document.get("title")))

    def take(self) -> bytes:
        """Return all that waits, and forget it."""
        self._settle()
        taken = b"".join(b"data: %b\n\n" % to_json(part) for part in self._parts)
        if self.done and taken:
            taken += DONE
        self._parts.clear()
        self.size = 0
        self._attempt_at = None
        self._client_in_step, self._client_open = self._in_step, self._open
        return taken

    def _say(self, event: Event) -> None:  # noqa: C901 - one case a type is what a match is for
        match event:
            case GenerationQueued() | UnknownEvent():
                return
            case GenerationStarted():
                self._started(event)
            case TextDelta():
                self._delta("text", event.text)
            case ReasoningDelta():
                self._delta("reasoning", event.text)
            case ToolCallEvent():
                self._tool_call(event)
            case ToolResultEvent():
                self._tool_result(event)
            case DataEvent():
                self._put({"type": f"data-{event.name}", "data": event.value})
            case UsageEvent():
                self._tell({"usage": {"inputTokens": event.input_tokens, "outputTokens": event.output_tokens}})
            case GenerationCompleted():
                self._close_step()
                reason = _FINISH_REASONS.get(event.finish_reason, "other")
                self._put({"type": "finish", "finishReason": reason})
                self.done = True
            case GenerationStopped():
                self._stopped(event)
            case GenerationFailed():
                self._close_part()
                self._tell({"failed": {"code": event.code, "retryable": event.retryable}})
                self._fail(event.message)
            case _:
                assert_never(event)

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        start: Part = {"type": "start"}
        if self._new_message:
            start["messageId"] = self._generation
        self._put({**start, "messageMetadata": {"generation": self._generation}})

    def _started(self, event: GenerationStarted) -> None:
        told: Part = {"attempt": event.attempt, "model": event.model}
        if event.attempt > 1 and not event.continues:
            self._void()
            self._put({"type": RESTART, "id": f"restart-{event.attempt}", "data": {"attempt": event.attempt}})
            told["usage"] = None
        if not self._in_step:
            self._settle()
            self._attempt_at = len(self._parts)
            self._put({"type": "start-step"})
            self._in_step = True
        self._tell(told)

    def _void(self) -> None:
        """Drop what waits of the earlier attempt; close what the client has of it."""
        self._pieces.clear()
        if self._attempt_at is None:
            self._parts = self._parts[:1] if self._parts and self._parts[0]["type"] == "start" else []
            self._open, self._in_step = self._client_open, self._client_in_step
            self._close_step()
        else:
            del self._parts[self._attempt_at :]
            self._open, self._in_step = None, False
        self._calls.clear()

    def _delta(self, kind: Kind, text: str) -> None:
        if self._open is None or self._open.kind != kind:
            self._close_part()
            self._count += 1
            self._open = OpenPart(kind, f"{kind}-{self._count}")
            self._put({"type": f"{kind}-start", "id": self._open.id})
        self._pieces.append(text)

    def _tool_call(self, event: ToolCallEvent) -> None:
        self._close_part()
        self._calls.add(event.id)
        call: Part = {"toolCallId": event.id, "toolName": event.name}
        try:
            arguments = from_json(event.arguments or "{}", allow_inf_nan=False)
        except ValueError:
            error = "The model wrote arguments that are not JSON."
            self._put({"type": "tool-input-error", **call, "input": event.arguments, "errorText": error})
        else:
            self._put({"type": "tool-input-available", **call, "input": arguments})

    def _tool_result(self, event: ToolResultEvent) -> None:
        # The SDK gives up on the whole stream over a result whose call it does not know.
        if event.id in self._calls:
            self._put({"type": "tool-output-available", "toolCallId": event.id, "output": event.output})

    def _stopped(self, event: GenerationStopped) -> None:
        # The SDK keeps `abort` to itself, so the message's metadata say it too.
        self._close_part()
        self._tell({"stopped": {"by": event.by, "reason": event.reason}})
        self._close_step()
        self._put({"type": "abort", **({"reason": event.reason} if event.reason else {})})
        self.done = True

    def _fail(self, message: str) -> None:
        self._close_part()
        self._put({"type": "error", "errorText": message})
        self.done = True

    def _close_step(self) -> None:
        self._close_part()
        if self._in_step:
            self._put({"type": "finish-step"})
            self._in_step = False

    def _close_part(self) -> None:
        self._settle()
        if self._open is not None:
            kind, part_id = self._open
            self._open = None
            self._put({"type": f"{kind}-end", "id": part_id})

    def _tell(self, metadata: Mapping[str, object]) -> None:
        self._put({"type": "message-metadata", "messageMetadata": metadata})

    def _put(self, part: Part) -> None:
        self._settle()
        self._parts.append(part)

    def _settle(self) -> None:
        """Make one delta of the pieces that wait."""
        if self._pieces and self._open is not None:
            kind, part_id = self._open
            self._parts.append({"type": f"{kind}-delta", "id": part_id, "delta": "".join(self._pieces)})
            self._pieces.clear()
