"""`fold`: events in, the messages that a person sees out. Pure; snapshot, persister and page use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

from chunkspool.events import (
    Data,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolResult,
    UnknownEvent,
    Usage,
)

State = Literal["queued", "running", "completed", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `output` is None until its result came."""

    id: str
    name: str
    arguments: str
    output: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One generation as a person sees it. `error` is the message of a failed one, `reason` that of a stop."""

    generation: str
    state: State = "queued"
    attempt: int = 0
    model: str | None = None
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    data: tuple[tuple[str, Any], ...] = ()
    usage: Usage | None = None
    finish_reason: str | None = None
    stopped_by: str | None = None
    reason: str | None = None
    error_code: str | None = None
    error: str | None = None


def fold(events: Iterable[Event], onto: Iterable[Answer] = ()) -> tuple[Answer, ...]:
    """Return the chat's answers in the order of their first events.

    `onto` is an earlier fold that `events` continue: ``fold(a + b) == fold(b, onto=fold(a))``.
    """
    answers = {answer.generation: answer for answer in onto}
    pieces: dict[tuple[str, Literal["text", "reasoning"]], list[str]] = {}

    def settled(generation: str) -> Answer:
        answer = answers.get(generation) or Answer(generation)
        text = answer.text + "".join(pieces.pop((generation, "text"), ()))
        reasoning = answer.reasoning + "".join(pieces.pop((generation, "reasoning"), ()))
        return replace(answer, text=text, reasoning=reasoning)

    for event in events:
        if isinstance(event, UnknownEvent):
            continue
        if isinstance(event, TextDelta | ReasoningDelta):
            answers.setdefault(event.generation, Answer(event.generation))
            kind: Literal["text", "reasoning"] = "text" if isinstance(event, TextDelta) else "reasoning"
            pieces.setdefault((event.generation, kind), []).append(event.text)
        else:
            answers[event.generation] = _after(settled(event.generation), event)
    for generation in {generation for generation, _ in pieces}:
        answers[generation] = settled(generation)
    return tuple(answers.values())


_Rest = (
    GenerationQueued
    | GenerationStarted
    | ToolCall
    | ToolResult
    | Data
    | Usage
    | GenerationCompleted
    | GenerationStopped
    | GenerationFailed
)


def _after(answer: Answer, event: _Rest) -> Answer:  # noqa: PLR0911 - one return a type is what a match is for
    match event:
        case GenerationQueued():
            return answer
        case GenerationStarted():
            return _started(answer, event)
        case ToolCall():
            return replace(answer, tool_calls=(*answer.tool_calls, Call(event.id, event.name, event.arguments)))
        case ToolResult():
            calls = (replace(c, output=event.output) if c.id == event.id else c for c in answer.tool_calls)
            return replace(answer, tool_calls=tuple(calls))
        case Data():
            return replace(answer, data=(*answer.data, (event.name, event.value)))
        case Usage():
            return replace(answer, usage=event)
        case GenerationCompleted():
            return replace(answer, state="completed", finish_reason=event.finish_reason)
        case GenerationStopped():
            return replace(answer, state="stopped", stopped_by=event.by, reason=event.reason)
        case GenerationFailed():
            return replace(answer, state="failed", error_code=event.code, error=event.message)
        case _:
            assert_never(event)


def _started(answer: Answer, event: GenerationStarted) -> Answer:
    """Drop what earlier attempts wrote, unless this one goes on from it."""
    kept = answer if event.continues else Answer(answer.generation)
    return replace(kept, state="running", attempt=event.attempt, model=event.model)
