"""`fold`: events in, the messages that a person sees out. Pure; snapshot, persister and page use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

from chunkspool.events import (
    DataEvent,
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
from chunkspool.ids import GenerationId
from chunkspool.states import State


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call; `output` is None until its result came."""

    id: str
    name: str
    arguments: str
    output: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation as a person sees it. `error` is the message of a failed one, `reason` that of a stop."""

    generation_id: GenerationId
    state: State = "queued"
    attempt: int = 0
    model: str | None = None
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolUse, ...] = ()
    data: tuple[tuple[str, Any], ...] = ()
    usage: UsageEvent | None = None
    finish_reason: str | None = None
    stopped_by: str | None = None
    reason: str | None = None
    error_code: str | None = None
    error: str | None = None


def fold(events: Iterable[Event], onto: Iterable[Answer] = ()) -> tuple[Answer, ...]:
    """Return the chat's answers in the order of their first events.

    `onto` is an earlier fold that `events` continue: ``fold(a + b) == fold(b, onto=fold(a))``.
    """
    answers = {answer.generation_id: answer for answer in onto}
    pieces: dict[tuple[str, Literal["text", "reasoning"]], list[str]] = {}

    def settle(generation_id: str) -> Answer:
        answer = answers.get(generation_id) or Answer(generation_id)
        text = answer.text + "".join(pieces.pop((generation_id, "text"), ()))
        reasoning = answer.reasoning + "".join(pieces.pop((generation_id, "reasoning"), ()))
        return replace(answer, text=text, reasoning=reasoning)

    for event in events:
        if isinstance(event, UnknownEvent):
            continue
        if isinstance(event, TextDelta | ReasoningDelta):
            answers.setdefault(event.generation_id, Answer(event.generation_id))
            kind: Literal["text", "reasoning"] = "text" if isinstance(event, TextDelta) else "reasoning"
            pieces.setdefault((event.generation_id, kind), []).append(event.text)
        else:
            answers[event.generation_id] = _apply(settle(event.generation_id), event)
    for generation_id in {generation_id for generation_id, _ in pieces}:
        answers[generation_id] = settle(generation_id)
    return tuple(answers.values())


_Rest = (
    GenerationQueued
    | GenerationStarted
    | ToolCallEvent
    | ToolResultEvent
    | DataEvent
    | UsageEvent
    | GenerationCompleted
    | GenerationStopped
    | GenerationFailed
)


def _apply(answer: Answer, event: _Rest) -> Answer:  # noqa: PLR0911 - one return a type is what a match is for
    match event:
        case GenerationQueued():
            return answer
        case GenerationStarted():
            return _restart(answer, event)
        case ToolCallEvent():
            return replace(answer, tool_calls=(*answer.tool_calls, ToolUse(event.id, event.name, event.arguments)))
        case ToolResultEvent():
            calls = (replace(c, output=event.output) if c.id == event.id else c for c in answer.tool_calls)
            return replace(answer, tool_calls=tuple(calls))
        case DataEvent():
            return replace(answer, data=(*answer.data, (event.name, event.value)))
        case UsageEvent():
            return replace(answer, usage=event)
        case GenerationCompleted():
            return replace(answer, state="completed", finish_reason=event.finish_reason)
        case GenerationStopped():
            return replace(answer, state="stopped", stopped_by=event.by, reason=event.reason)
        case GenerationFailed():
            return replace(answer, state="failed", error_code=event.code, error=event.message)
        case _:
            assert_never(event)


def _restart(answer: Answer, event: GenerationStarted) -> Answer:
    """Drop what earlier attempts wrote, unless this one goes on from it."""
    kept = answer if event.continues else Answer(answer.generation_id)
    return replace(kept, state="running", attempt=event.attempt, model=event.model)
