"""`fold`: events in, the messages that a person sees out. Pure; snapshot, persister and page use it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, assert_never

from chunkspool.events import (
    DataEvent,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    Known,
    MessageEvent,
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
    """One generation as a person sees it. `error` is the message of a failed one, `reason` that of a stop.

    `asked` is what was new of the conversation when it was enqueued; `answers` is the id of the message that it
    answers, and `replaces` the generation of which it is another version. `conversation` puts them in order.
    """

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
    answers: str | None = None
    replaces: str | None = None
    asked: tuple[MessageEvent, ...] = ()


def fold(events: Iterable[Event], onto: Iterable[Answer] = ()) -> tuple[Answer, ...]:
    """Return the chat's answers in the order of their first events.

    `onto` is an earlier fold that `events` continue: ``fold(a + b) == fold(b, onto=fold(a))``.
    """
    folding = Folding(onto)
    for event in events:
        folding.add(event)
    return folding.answers()


class Folding:
    """A fold that takes its events one by one. Each costs the same, however many came before it."""

    __slots__ = ("_drafts",)

    def __init__(self, onto: Iterable[Answer] = ()) -> None:
        """Begin with the answers of an earlier fold."""
        self._drafts = {answer.generation_id: _Draft(answer) for answer in onto}

    def add(self, event: Event) -> None:
        """Add the chat's next event."""
        if isinstance(event, UnknownEvent):
            return
        draft = self._drafts.get(event.generation_id)
        if draft is None:
            draft = self._drafts[event.generation_id] = _Draft(Answer(event.generation_id))
        draft.add(event)

    def answers(self) -> tuple[Answer, ...]:
        """Return the answers as they stand, in the order of their first events."""
        return tuple([draft.answer() for draft in self._drafts.values()])


class _Draft:
    """One answer while it is folded: what it began with, and lists of what came, which only `answer` puts together."""

    __slots__ = ("_base", "_calls", "_data", "_outputs", "_reasoning", "_text")

    def __init__(self, base: Answer) -> None:
        self._base = base
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolUse] = []
        self._data: list[tuple[str, Any]] = []
        # The newest result for each call id, and how many calls there were: it is for all of that id before it.
        self._outputs: dict[str, tuple[Any, int]] = {}

    def add(self, event: Known) -> None:  # noqa: C901, PLR0912 - one case per type is what a match is for
        match event:
            case TextDelta():
                self._text.append(event.text)
            case ReasoningDelta():
                self._reasoning.append(event.text)
            case MessageEvent():
                self._base = replace(self._base, asked=(*self._base.asked, event))
            case GenerationQueued():
                self._base = replace(self._base, answers=event.answers, replaces=event.replaces)
            case GenerationStarted():
                self._start(event)
            case ToolCallEvent():
                self._calls.append(ToolUse(event.id, event.name, event.arguments))
            case ToolResultEvent():
                self._outputs[event.id] = event.output, len(self._base.tool_calls) + len(self._calls)
            case DataEvent():
                self._data.append((event.name, event.value))
            case UsageEvent():
                self._base = replace(self._base, usage=event)
            case GenerationCompleted():
                self._base = replace(self._base, state="completed", finish_reason=event.finish_reason)
            case GenerationStopped():
                self._base = replace(self._base, state="stopped", stopped_by=event.by, reason=event.reason)
            case GenerationFailed():
                self._base = replace(self._base, state="failed", error_code=event.code, error=event.message)
            case _:
                assert_never(event)

    def answer(self) -> Answer:
        return replace(
            self._base,
            text=self._base.text + "".join(self._text),
            reasoning=self._base.reasoning + "".join(self._reasoning),
            tool_calls=self._tool_calls(),
            data=(*self._base.data, *self._data),
        )

    def _start(self, event: GenerationStarted) -> None:
        """Drop what earlier attempts wrote, unless this one goes on from it."""
        if not event.continues:
            self._clear()
            base = self._base
            self._base = Answer(base.generation_id, answers=base.answers, replaces=base.replaces, asked=base.asked)
        self._base = replace(self._base, state="running", attempt=event.attempt, model=event.model)

    def _tool_calls(self) -> tuple[ToolUse, ...]:
        calls = (*self._base.tool_calls, *self._calls)
        if not self._outputs:
            return calls
        return tuple([self._with_output(call, at) for at, call in enumerate(calls)])

    def _with_output(self, call: ToolUse, at: int) -> ToolUse:
        output, calls_before = self._outputs.get(call.id, (None, 0))
        return replace(call, output=output) if at < calls_before else call
