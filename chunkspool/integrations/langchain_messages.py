"""Reads the messages of LangChain and LangGraph, whole ones and chunks, as deltas. Without I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage

from chunkspool.errors import InvalidInput
from chunkspool.integrations.tool_results import ToolPairs
from chunkspool.integrations.turns import INTERRUPT, UsageSum, finish_after
from chunkspool.provider import Delta, Finish, Reasoning, SignOfLife, Text, ToolCall
from chunkspool.tasks.providers.chat_completions.tool_calls import ToolCallAssembler
from chunkspool.tasks.providers.json_values import count_in, json_of, object_in, text_in

MAX_OPEN_TURNS = 256
"""Messages of which nobody has said that they are complete. Of more, the oldest counts as complete."""
PROGRESS = SignOfLife(progress=True)
_REASONS = ("finish_reason", "stop_reason", "done_reason")
"""Where the makers of models put the reason."""


@dataclass(slots=True)
class _Turn:
    """A message of the model that is still arriving."""

    calls: ToolCallAssembler = field(default_factory=ToolCallAssembler)
    ids: set[str] = field(default_factory=set)


class MessageReader:
    """Reads the messages of one generation: several turns, of which some may run at the same time."""

    def __init__(self, nodes: Collection[str] | None = None) -> None:
        """Take the names of the nodes whose models speak to the reader; None: all of them do."""
        self.interrupted = False
        """Whether the graph waits for a person."""
        self._nodes = nodes
        self._turns: dict[str, _Turn] = {}
        self._pairs = ToolPairs()
        self._usage = UsageSum()
        self._reason = ""

    def feed(self, message: object, node: str | None = None) -> Iterator[Delta | SignOfLife]:
        """Yield what a message, or a chunk of it, says. Raises `ProviderError` and `InvalidInput`."""
        is_said = self._nodes is None or node in self._nodes
        match message:
            case str():
                yield Text(message)
            case AIMessageChunk():
                yield from self._feed_chunk(message, is_said=is_said)
            case AIMessage():
                yield from self._feed_whole(message, is_said=is_said)
            case ToolMessage():
                yield from self._feed_result(message)
            case BaseMessage():
                yield PROGRESS  # the graph's own bookkeeping: a question, a summary
            case _:
                raise InvalidInput(
                    f"the runnable yields a {type(message).__name__}: end it with a chat model or StrOutputParser, "
                    "or pass the graph itself"
                )

    def end(self) -> Iterator[Delta]:
        """Yield what is complete only now. Raises `ProviderError` if the model's last word means a failure."""
        for key in list(self._turns):
            yield from self._close(key)
        yield from self._usage.take()
        yield Finish(INTERRUPT) if self.interrupted else finish_after(self._reason, self._pairs)

    def take_usage(self) -> list[Delta]:
        """Return the usage that was not said yet: a failed answer is paid for, too."""
        return self._usage.take()

    def _feed_chunk(self, chunk: AIMessageChunk, *, is_said: bool) -> Iterator[Delta | SignOfLife]:
        key = chunk.id or ""
        yield from self._note(chunk, is_said=is_said)
        if is_said:
            yield from self._open(key, chunk)
        if chunk.chunk_position == "last":
            yield from self._close(key)

    def _open(self, key: str, chunk: AIMessageChunk) -> Iterator[Delta | SignOfLife]:
        """Note the pieces of tool calls in a chunk."""
        if not chunk.tool_call_chunks:
            return
        if key not in self._turns and len(self._turns) >= MAX_OPEN_TURNS:
            yield from self._close(next(iter(self._turns)))
        turn = self._turns.setdefault(key, _Turn())
        pieces = [{**piece, "arguments": piece["args"]} for piece in chunk.tool_call_chunks]
        turn.ids.update(piece["id"] for piece in chunk.tool_call_chunks if piece["id"])
        if turn.calls.add(pieces):
            yield PROGRESS

    def _close(self, key: str) -> Iterator[Delta]:
        """Yield the calls of a message that is complete, and the tokens paid for so far."""
        turn = self._turns.pop(key, None)
        for call in turn.calls.close() if turn else ():
            yield self._pairs.call(call)
        yield from self._usage.take()

    def _feed_whole(self, message: AIMessage, *, is_said: bool) -> Iterator[Delta | SignOfLife]:
        yield from self._note(message, is_said=is_said)
        for call in (*message.tool_calls, *message.invalid_tool_calls) if is_said else ():
            arguments: Any = call["args"]
            as_text = arguments if isinstance(arguments, str) else json_of(arguments)
            yield self._pairs.call(ToolCall(call["id"] or "", call["name"] or "", as_text))
        yield from self._usage.take()

    def _feed_result(self, message: ToolMessage) -> Iterator[Delta | SignOfLife]:
        # The call comes first, also where nobody marks the end of the model's message.
        for key in [key for key, turn in self._turns.items() if message.tool_call_id in turn.ids]:
            yield from self._close(key)
        yield self._pairs.result(message.tool_call_id, message.content) or PROGRESS

    def _note(self, message: AIMessage, *, is_said: bool) -> Iterator[Delta | SignOfLife]:
        """Yield the text of a message, and note its tokens and its finish reason."""
        usage = object_in(message.usage_metadata)
        self._usage.add(count_in(usage.get("input_tokens")), count_in(usage.get("output_tokens")))
        if not is_said:
            yield PROGRESS
            return
        yield from _read_content(message)
        reasons = (text_in(message.response_metadata.get(name)) for name in _REASONS)
        self._reason = next(filter(None, reasons), self._reason)


def _read_content(message: AIMessage) -> Iterator[Delta | SignOfLife]:
    """Yield text and reasoning in the order in which they stand."""
    if isinstance(message.content, str):
        if thought := text_in(message.additional_kwargs.get("reasoning_content")):
            yield Reasoning(thought)
        if message.content:
            yield Text(message.content)
        return
    blocks: list[Any] = list(message.content_blocks)
    for block in blocks:
        if block["type"] == "text" and text_in(block.get("text")):
            yield Text(block["text"])
        elif block["type"] == "reasoning" and text_in(block.get("reasoning")):
            yield Reasoning(block["reasoning"])
        else:
            yield PROGRESS
