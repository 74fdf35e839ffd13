"""Says a chat's conversation in lines for people, and as one JSON document. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import TypeAdapter

from chunkspool.cli.formatting import duration, one_line, plain, text_of
from chunkspool.conversation import Turn, conversation
from chunkspool.events import Entry, MessageEvent
from chunkspool.fold import Answer, Folding, ToolUse
from chunkspool.json_text import to_valid_json
from chunkspool.states import ENDING_TYPES

_INDENT: Final = "  "
_ANSWER: Final = TypeAdapter(Answer)


@dataclass(slots=True)
class Times:
    """When a generation was asked for, when its last attempt began, and when it ended; Unix ms by Redis's clock."""

    asked: int
    started: int | None = None
    ended: int | None = None


@dataclass(slots=True)
class Telling:
    """What is known of a chat's conversation after the entries that were added."""

    chat_id: str
    seq: int = 0
    cursor: str = "0"
    _folding: Folding = field(default_factory=Folding)
    _times: dict[str, Times] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take the chat's next entry."""
        self.seq, self.cursor = entry.seq, entry.cursor
        self._folding.add(entry.event)
        times = self._times.setdefault(entry.generation_id, Times(entry.at))
        if entry.type == "generation.started":
            times.started = entry.at
        elif entry.type in ENDING_TYPES:
            times.ended = entry.at

    def lines(self) -> Iterator[str]:
        """Return what a person reads: who said what and when, and how each answer ended."""
        answers = self._folding.answers()
        turns = conversation(answers)
        others = len(answers) - len(turns)
        of_these = f", {others} of which do not count" if others else ""
        yield f"chat {self.chat_id}: {_count(len(answers), 'answer')} up to seq {self.seq}{of_these}"
        for turn in turns:
            for message in turn.messages:
                yield ""
                yield f"{_moment(self._times[message.generation_id].asked)}  {one_line(message.role)}"
                yield from _indent(_said_in(message))
            yield ""
            yield self._heading(turn)
            yield from _indent(_said_by(turn.answer))

    def document(self) -> bytes:
        """Return the conversation as JSON: all messages and answers of the log, and the turns that count."""
        answers = self._folding.answers()
        document = {
            "chat_id": self.chat_id,
            "seq": self.seq,
            "cursor": self.cursor,
            "messages": [self._message(message) for answer in answers for message in answer.asked],
            "answers": [self._answer(answer) for answer in answers],
            "turns": [_turn(turn) for turn in conversation(answers)],
        }
        return to_valid_json(document) + b"\n"

    def _heading(self, turn: Turn) -> str:
        answer, times = turn.answer, self._times[turn.answer.generation_id]
        said = [_outcome(answer)]
        if len(turn.versions) > 1:
            said.append(f"version {turn.versions.index(answer.generation_id) + 1} of {len(turn.versions)}")
        if times.started is not None and times.ended is not None:
            said.append(duration(times.ended - times.started))
        if answer.attempt > 1:
            said.append(f"attempt {answer.attempt}")
        if answer.model:
            said.append(f"model {answer.model}")
        at = times.asked if times.started is None else times.started
        return one_line(f"{_moment(at)}  assistant: {', '.join(said)}  ({answer.generation_id})")

    def _message(self, message: MessageEvent) -> dict[str, Any]:
        return {**message.model_dump(by_alias=True), "at": self._times[message.generation_id].asked}

    def _answer(self, answer: Answer) -> dict[str, Any]:
        fields: dict[str, Any] = _ANSWER.dump_python(answer, by_alias=True)
        times = self._times[answer.generation_id]
        fields["asked"] = [message.id for message in answer.asked]
        return {**fields, "asked_at": times.asked, "started_at": times.started, "ended_at": times.ended}


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "messages": [message.id for message in turn.messages],
        # An edited message may have kept its id: this says which of them it is.
        "asked_with": turn.messages[0].generation_id if turn.messages else None,
        "answer": turn.answer.generation_id,
        "versions": list(turn.versions),
    }


def _said_in(message: MessageEvent) -> Iterator[str]:
    fields = message.model_extra or {}
    if message.content is not None:
        yield text_of(message)
    calls = fields.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        named = function if isinstance(function, dict) else {}
        yield f"· calls the tool {named.get('name')}: {named.get('arguments')}"
    if "tool_call_id" in fields:
        yield f"· for the call {fields['tool_call_id']}"


def _said_by(answer: Answer) -> Iterator[str]:
    if answer.text:
        yield answer.text
    yield from map(_tool, answer.tool_calls)
    for name, value in answer.data:
        yield f"· data {name}: {to_valid_json(value).decode()}"


def _tool(call: ToolUse) -> str:
    output = "" if call.output is None else f" → {to_valid_json(call.output).decode()}"
    return f"· calls the tool {call.name} ({call.id}): {call.arguments}{output}"


def _outcome(answer: Answer) -> str:
    match answer.state:
        case "completed":
            reason = answer.finish_reason
            return "completed" if reason in {None, "stop"} else f"completed ({reason})"
        case "stopped":
            return f"stopped by {answer.stopped_by}" + (f": {answer.reason}" if answer.reason else "")
        case "failed":
            return f"failed ({answer.error_code}): {answer.error}"
        case "running":
            return "still being written"
        case "queued":
            return "still waiting"


def _indent(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from (f"{_INDENT}{line}".rstrip() for line in plain(text).splitlines())


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
