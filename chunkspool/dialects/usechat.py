"""The AI SDK's UI message stream, version 1: the format that an unmodified `useChat` front end reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, assert_never

from chunkspool.dialects import EVENT_STREAM
from chunkspool.dialects.usechat_chunks import RESTART, Chunk, data_chunk
from chunkspool.dialects.usechat_json import decode_arguments, encode_part
from chunkspool.dialects.usechat_messages import UiMessage
from chunkspool.dialects.usechat_replay import replay_chunks, tool_call_ids
from chunkspool.events import (
    DataEvent,
    Entry,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    MessageEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
)

DONE = b"data: [DONE]\n\n"
EARLY_END = "The connection ended before the answer did. The answer is still being written: resume to see all of it."
"""The error of a stream that ends early without a problem of its own, as in a shutdown of the server."""
TAKES_BACK = 7
"""The first major version of the SDK whose client can drop what it has of a step, by `reset-step`."""
_FINISH_REASONS = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
    "refusal": "content-filter",
}

PartKind = Literal["text", "reasoning"]


class OpenPart(NamedTuple):
    """A text or reasoning part that has a start but no end yet."""

    kind: PartKind
    id: str


class Place(NamedTuple):
    """Where the stream stands: the open part, whether a step is open, and how many the attempt has begun."""

    open: OpenPart | None = None
    in_step: bool = False
    steps: int = 0


class UseChatEncoder:
    """Encodes one generation and ignores the chat's other generations.

    Adjacent waiting deltas are merged into one. Unsent output of a superseded attempt is dropped.

    Parts of a message only grow, and a second `start` would make a second message. So a restart happens inside the
    message, and how depends on what the client already has. If it has nothing of the old attempt, the attempt is
    removed from the waiting chunks. If the client can take back a step and has no other of the attempt, it is told to.
    Otherwise the part that it saw open is closed, and a marker (`RESTART`) tells the front end what to ignore.

    A clean end before the generation's own looks like success to the SDK, so `close` makes it an error.
    """

    headers: Mapping[str, str] = {
        **EVENT_STREAM,
        "content-type": "text/event-stream",
        "x-vercel-ai-ui-message-stream": "v1",
    }

    def __init__(
        self, generation_id: str, *, sdk: int = 6, continued: UiMessage | None = None, replays: bool = False
    ) -> None:
        """Encode for a client whose AI SDK has the major version `sdk`.

        `continued` is the client's own message that the answer extends, if it does not make a new one. With `replays`,
        the client is to get that message's earlier parts, too: it builds the message anew.
        """
        self.done = False
        self.size = 0
        self._generation_id = generation_id
        self._sdk = sdk
        self._continued = continued
        self._replays = replays
        self._chunks: list[Chunk] = []
        # Deltas of the open part that are not yet in `_chunks`.
        self._pieces: list[str] = []
        # The calls for which a result may come. Those of the continued message outlive every attempt.
        self._earlier_calls = frozenset(tool_call_ids(continued.parts if continued else ()))
        self._tool_calls = set(self._earlier_calls)
        self._opened_parts = 0
        self._has_begun = False
        # How many of the waiting chunks begin the message.
        self._beginning = 0
        # Whether tools have answered in this step: what the model says next is another step.
        self._has_result = False
        # After the last waiting chunk, and as the client knows it: after the last chunk that was taken.
        self._here = self._at_client = Place()
        # Where the current attempt begins in `_chunks`, or None if the client already has its beginning.
        self._attempt_at: int | None = None

    def add(self, entry: Entry) -> None:
        """Add an entry of the chat."""
        if entry.generation_id != self._generation_id or self.done:
            return
        self.size += len(entry.raw)
        self._begin_message()
        self._encode(entry.event)

    def add_corrupt(self, seq: int) -> None:
        """Add a notice that an entry cannot be decoded: a data part, which the front end may show."""
        if self.done:
            return
        # It may be the first entry, and a part before `start` would be a message of its own.
        self._begin_message()
        self._add_chunk({"type": "data-chunkspool-corrupt", "data": {"seq": seq}})

    def add_problem(self, document: Mapping[str, object]) -> None:
        """Add the reason why the stream ends early: the SDK's `error`."""
        if not self.done:
            self._fail(str(document.get("detail") or document.get("title")))

    def close(self) -> None:
        """Add an error if the stream is not complete: the SDK would take a clean end for the whole answer."""
        if not self.done:
            self._fail(EARLY_END)

    def take(self) -> bytes:
        """Return all that is waiting, and forget it."""
        taken = b"".join(b"data: %b\n\n" % encode_part(chunk) for chunk in self.take_chunks())
        return taken + DONE if self.done and taken else taken

    def take_chunks(self) -> list[Chunk]:
        """Return all that is waiting as the chunks it consists of, and forget it."""
        self._flush_pieces()
        taken, self._chunks = self._chunks, []
        self.size = self._beginning = 0
        self._attempt_at = None
        self._at_client = self._here
        return taken

    def _encode(self, event: Event) -> None:  # noqa: C901 - one case per type is what a match is for
        match event:
            case MessageEvent() | GenerationQueued() | UnknownEvent():
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
                self._add_chunk(data_chunk(event))
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
        own = {"generation": self._generation_id}
        if self._continued is None:
            self._add_chunk({"type": "start", "messageId": self._generation_id, "messageMetadata": own})
        elif self._replays:
            # The SDK drops what it has of a message at the first `start` of a resumed stream.
            self._add_chunks(replay_chunks(self._continued, sdk=self._sdk))
            self._add_metadata(own)
        else:
            self._add_chunk({"type": "start", "messageMetadata": own})
        self._beginning = len(self._chunks)

    def _start_attempt(self, event: GenerationStarted) -> None:
        metadata: Chunk = {"attempt": event.attempt, "model": event.model}
        if event.attempt > 1 and not event.continues:
            self._void_attempt(event.attempt)
            metadata["usage"] = None
        if not self._here.in_step:
            # Behind the marker: if this attempt is superseded before it is sent, the marker must stay.
            self._flush_pieces()
            self._attempt_at = len(self._chunks)
            self._here = Place()
            self._start_step()
        self._add_metadata(metadata)

    def _void_attempt(self, by: int) -> None:
        """Drop the unsent output of the earlier attempt; close or take back what the client has of it."""
        self._pieces.clear()
        self._tool_calls = set(self._earlier_calls)
        self._has_result = False
        if self._attempt_at is not None:
            # The whole attempt is unsent, so the client never learns of it.
            del self._chunks[self._attempt_at :]
            self._here = Place()
            if self._sdk < TAKES_BACK:
                self._mark_restart(by)
            return
        # The client has the attempt's beginning. All that waits belongs to the attempt, except how the message begins.
        del self._chunks[self._beginning :]
        # Back to what the client knows: only that can be, and must be, closed.
        self._here = self._at_client
        if self._sdk >= TAKES_BACK and self._here.in_step and self._here.steps == 1:
            self._add_chunk({"type": "reset-step"})
            self._here = self._here._replace(open=None)
        else:
            self._close_step()
            self._mark_restart(by)

    def _mark_restart(self, attempt: int) -> None:
        data: dict[str, object] = {"attempt": attempt}
        if self._continued is not None:
            # What the message had before this generation is not void.
            data["from"] = len(self._continued.parts)
        # With the generation's id: of two parts with one id, the SDK would keep the place of the first.
        self._add_chunk({"type": RESTART, "id": f"restart-{self._generation_id}-{attempt}", "data": data})

    def _add_delta(self, kind: PartKind, text: str) -> None:
        opened = self._here.open
        if opened is None or opened.kind != kind:
            self._close_part()
            self._follow_results()
            # Counted over all attempts: a message must not have two parts with one id.
            self._opened_parts += 1
            opened = OpenPart(kind, f"{kind}-{self._opened_parts}")
            self._here = self._here._replace(open=opened)
            self._add_chunk({"type": f"{kind}-start", "id": opened.id})
        self._pieces.append(text)

    def _add_tool_call(self, event: ToolCallEvent) -> None:
        self._close_part()
        self._follow_results()
        self._tool_calls.add(event.id)
        call: Chunk = {"toolCallId": event.id, "toolName": event.name}
        try:
            arguments = decode_arguments(event.arguments)
        except ValueError:
            error = "The model wrote arguments that are not JSON, or that a browser cannot take."
            self._add_chunk({"type": "tool-input-error", **call, "input": event.arguments, "errorText": error})
        else:
            self._add_chunk({"type": "tool-input-available", **call, "input": arguments})

    def _add_tool_result(self, event: ToolResultEvent) -> None:
        # The SDK aborts the whole stream at a result whose call it does not know.
        if event.id in self._tool_calls:
            self._close_part()
            self._add_chunk({"type": "tool-output-available", "toolCallId": event.id, "output": event.output})
            self._has_result = event.id not in self._earlier_calls

    def _follow_results(self) -> None:
        """Begin another step if tools have answered in this one.

        The order within a step does not tell what the model said before and after it knew the results, neither to the
        SDK nor to a model that gets the history.
        """
        if self._has_result and self._here.in_step:
            self._has_result = False
            self._close_step()
            self._start_step()

    def _complete(self, event: GenerationCompleted) -> None:
        self._close_step()
        self._add_chunk({"type": "finish", "finishReason": _FINISH_REASONS.get(event.finish_reason, "other")})
        self.done = True

    def _abort(self, event: GenerationStopped) -> None:
        # The SDK does not pass `abort` on to the app, so the metadata of the message has the stop as well.
        self._close_part()
        self._add_metadata({"stopped": {"by": event.by, "reason": event.reason}})
        self._close_step()
        if self._sdk >= TAKES_BACK:
            # Otherwise the client might send the message on by itself, if its tools have run.
            self._add_chunk({"type": "finish", "finishReason": "interrupted"})
        self._add_chunk({"type": "abort", **({"reason": event.reason} if event.reason else {})})
        self.done = True

    def _fail(self, message: str) -> None:
        self._close_part()
        self._add_chunk({"type": "error", "errorText": message})
        self.done = True

    def _start_step(self) -> None:
        self._add_chunk({"type": "start-step"})
        self._here = self._here._replace(in_step=True, steps=self._here.steps + 1)

    def _close_step(self) -> None:
        self._close_part()
        if self._here.in_step:
            self._add_chunk({"type": "finish-step"})
            self._here = self._here._replace(in_step=False)

    def _close_part(self) -> None:
        self._flush_pieces()
        if self._here.open is not None:
            kind, part_id = self._here.open
            self._here = self._here._replace(open=None)
            self._add_chunk({"type": f"{kind}-end", "id": part_id})

    def _add_metadata(self, metadata: Mapping[str, object]) -> None:
        self._add_chunk({"type": "message-metadata", "messageMetadata": metadata})

    def _add_chunks(self, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            self._add_chunk(chunk)

    def _add_chunk(self, chunk: Chunk) -> None:
        # The deltas before it first, or the order would change.
        self._flush_pieces()
        self._chunks.append(chunk)

    def _flush_pieces(self) -> None:
        """Merge the waiting deltas of the open part into one."""
        if self._pieces and self._here.open is not None:
            kind, part_id = self._here.open
            self._chunks.append({"type": f"{kind}-delta", "id": part_id, "delta": "".join(self._pieces)})
            self._pieces.clear()
