"""What an answer has said and called, step by step, as messages for a model. Pure.

A step is one answer of the model: what it says behind the outputs of its tools, it says with these in mind. `fold`
shows people the same answer as one text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from chunkspool.events import (
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
)
from chunkspool.json_text import to_valid_json

ModelMessage = Mapping[str, Any]
"""A message in the chat-completions shape."""
STOPPED: Final = "[This answer was stopped here.]"
BROKEN_OFF: Final = "[This answer broke off here.]"
"""What stands behind the text of an answer that has failed, or that has not ended yet."""


@dataclass(slots=True)
class _Step:
    texts: list[str] = field(default_factory=list)
    calls: dict[str, ToolCallEvent] = field(default_factory=dict)
    outputs: dict[str, object] = field(default_factory=dict)

    def write(self, given: Mapping[str, ModelMessage]) -> Iterator[ModelMessage]:
        """Yield the assistant's message, and the output of each of its calls that has one: others, APIs reject."""
        text = "".join(self.texts)
        answered = [call for call in self.calls.values() if call.id in self.outputs or call.id in given]
        message: dict[str, Any] = {"role": "assistant", "content": text if text.strip() else None}
        if answered:
            message["tool_calls"] = [_write_call(call) for call in answered]
        if answered or message["content"]:
            yield message
        for call in answered:
            yield given.get(call.id) or _write_output(call.id, self.outputs[call.id])


class AnswerSteps:
    """Collects the events of one generation. What earlier attempts have said is void, unless a later one goes on."""

    __slots__ = ("_mark", "_steps")

    def __init__(self) -> None:
        """Begin without events."""
        self._steps = [_Step()]
        self._mark = BROKEN_OFF

    def add(self, event: Event) -> None:
        """Add the generation's next event."""
        match event:
            case GenerationStarted(continues=False):
                self._steps = [_Step()]
            case TextDelta():
                self._step(follows=bool(self._steps[-1].calls)).texts.append(event.text)
            case ToolCallEvent() if event.id:
                self._step(follows=bool(self._steps[-1].outputs)).calls[event.id] = event
            case ToolResultEvent():
                # Some models give each step's calls the same ids.
                called = (step for step in reversed(self._steps) if event.id in step.calls)
                if step := next(called, None):
                    step.outputs[event.id] = event.output
            case GenerationCompleted():
                self._mark = ""
            case GenerationStopped():
                self._mark = STOPPED
            case GenerationFailed():
                self._mark = BROKEN_OFF

    def messages(self, given: Iterable[ModelMessage] = ()) -> list[ModelMessage]:
        """Return them as messages; none where nothing was said.

        `given` are tool messages with outputs that came from elsewhere: from the browser, say.
        """
        outputs = {str(message.get("tool_call_id")): message for message in given}
        written: list[ModelMessage] = []
        for step in self._steps:
            for message in step.write(outputs):
                _append(written, message)
        if written and self._mark:
            _append(written, {"role": "assistant", "content": self._mark})
        return written

    def _step(self, *, follows: bool) -> _Step:
        """Return the newest step, or a new one where something `follows` it."""
        if follows:
            self._steps.append(_Step())
        return self._steps[-1]


def _append(written: list[ModelMessage], message: ModelMessage) -> None:
    """Append a message; the assistant's is made one with what it said before, without a call in between."""
    before = written[-1] if written else {}
    if before.get("role") == message["role"] == "assistant" and "tool_calls" not in before:
        said = "\n\n".join(filter(None, (before["content"], message["content"])))
        written[-1] = {**message, "content": said}
    else:
        written.append(message)


def _write_call(call: ToolCallEvent) -> ModelMessage:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": _object_of(call.arguments)},
    }


def _object_of(arguments: str) -> str:
    """Return arguments that are an object: servers reject others, and the model must see what it wrote."""
    try:
        is_object = isinstance(from_json(arguments), dict)
    except ValueError:
        is_object = False
    if is_object:
        return arguments
    return to_valid_json({"arguments": arguments} if arguments.strip() else {}).decode()


def _write_output(call_id: str, output: object) -> ModelMessage:
    content = output if isinstance(output, str) else to_valid_json(output).decode()
    return {"role": "tool", "tool_call_id": call_id, "content": content}
