"""Reads the events of a Pydantic AI run as deltas, by their documented kinds. Without I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import to_json

from chunkspool.integrations.tool_results import ToolPairs
from chunkspool.integrations.turns import UsageSum, finish_after
from chunkspool.provider import Delta, Finish, Reasoning, SignOfLife, Text, ToolCall
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.json_values import text_in

MAX_OUTPUT = 8 * 1024 * 1024
"""Characters of an output that is an object, as JSON."""
PROGRESS = SignOfLife(progress=True)


class EventReader:
    """Reads the events of one run: several turns of the model, with the tools that ran between them."""

    def __init__(self) -> None:
        """Nothing has happened yet."""
        self._pairs = ToolPairs()
        self._usage = UsageSum()
        self._said_text = False
        self._by_tool = False

    def feed(self, event: Any) -> Iterator[Delta | SignOfLife]:
        """Yield what an event says. Raises `ProviderError`."""
        match event.event_kind:
            case "part_start":
                yield from self._read_part(event.part.part_kind, getattr(event.part, "content", ""))
            case "part_delta":
                yield from self._read_part(event.delta.part_delta_kind, getattr(event.delta, "content_delta", ""))
            case "final_result":
                self._by_tool = event.tool_name is not None
            case "function_tool_call":
                self._said_text = False
                yield self._pairs.call(_read_call(event.part))
            case "function_tool_result":
                yield self._pairs.result(event.part.tool_call_id, event.part.content) or PROGRESS
            case "agent_run_result":
                yield from self._end(event.result)
            case _:
                yield PROGRESS

    def note_usage(self, usage: Any) -> None:
        """Take what the run has cost so far, as the run itself counts it."""
        self._usage.set(usage.input_tokens, usage.output_tokens)

    def take_usage(self) -> list[Delta]:
        """Return the usage that was not said yet."""
        return self._usage.take()

    def _read_part(self, kind: str, content: object) -> Iterator[Delta | SignOfLife]:
        text = text_in(content)
        if kind == "text" and text:
            self._said_text = True
            yield Text(text)
        elif kind == "thinking" and text:
            yield Reasoning(text)
        else:
            # Among others a piece of a tool call. The call is said when the run is about to make it.
            yield PROGRESS

    def _end(self, result: Any) -> Iterator[Delta]:
        """Yield the output, unless it was streamed, and the finish. Raises `ProviderError`."""
        if type(result.output).__name__ == "DeferredToolRequests":
            yield Finish("tool_calls")
            return
        if self._by_tool or not self._said_text:
            yield from _read_output(result.output)
        reason = result.response.finish_reason or ""
        # An output that came by a tool is an answer, though the model's last word was a call.
        yield Finish("stop") if reason == "tool_call" and self._by_tool else finish_after(reason, self._pairs)


def _read_call(part: Any) -> ToolCall:
    """Return a call, with the arguments as the model wrote them where they are a text."""
    arguments = part.args if isinstance(part.args, str) and part.args else part.args_as_json_str()
    return ToolCall(part.tool_call_id, part.tool_name, arguments)


def _read_output(output: object) -> Iterator[Delta]:
    """Yield an output as text: an object as JSON. Raises `ProviderError` for one that is too long."""
    if output is None:
        return
    text = output if isinstance(output, str) else to_json(output, fallback=str, bytes_mode="base64").decode()
    if len(text) > MAX_OUTPUT:
        raise failure(Code.AGENT_LIMIT, f"an output of {len(text)} characters")
    if text:
        yield Text(text)
