"""The conversation of a log as messages for a model, within a budget. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic_core import to_json

from chunkspool.conversation import Turn
from chunkspool.events import MessageEvent
from chunkspool.ids import GenerationId
from chunkspool.operations.answer_steps import AnswerSteps, ModelMessage
from chunkspool.operations.what_is_new import Spoken, find_question

FILE_CHARACTERS: Final = 4_000
"""What a picture or a file counts, however large: models charge about a thousand tokens."""
MOST_SENT: Final = 16 * 1024 * 1024
"""Characters of a history with all its pictures and files. A provider takes twice as much, or a little more."""
_OF_THE_APP: Final = ("system", "developer")
_OF_THE_LOG: Final = frozenset({"type", "generation", "id", "ui"})
"""Fields of a message in the log that are not for a model."""
_PLAIN: Final = frozenset({"role", "content"})

Content = str | list[Any] | None


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a conversation a model is given: the question itself counts, what the app says does not."""

    messages: int
    characters: int


@dataclass(frozen=True, slots=True)
class _Said:
    """A message, and the number of the turn in which it was said."""

    turn: int
    message: ModelMessage

    @property
    def role(self) -> object:
        return self.message["role"]


@dataclass(frozen=True, slots=True)
class History:
    """The messages for a model. `is_full`: there is no room for anything older."""

    messages: tuple[ModelMessage, ...]
    is_full: bool


def build_history(
    turns: Sequence[Turn],
    steps: Mapping[GenerationId, AnswerSteps],
    request: Sequence[ModelMessage],
    asked: Sequence[MessageEvent],
    budget: Budget,
) -> History:
    """Return what a model is given: the app's messages of its request, the conversation before it, the rest of it.

    `turns` is the conversation before the question, `steps` has what their answers said. `asked` is what the log has
    of the request itself.
    """
    app = [message for message in request if message["role"] in _OF_THE_APP]
    rest = [message for message in request if message["role"] not in _OF_THE_APP]
    # Whose question is not known, is no part of a conversation.
    known = [turn for turn in turns if turn.messages]
    logged = [_for_model(event) for event in asked if not _is_only_shown(event)]
    if not known:
        # With an edit of the log's first question comes what the log had begun with.
        return History((*app, *max(rest, logged, key=len)), is_full=False)
    # What the log has of the request, as it was given; where it has nothing, what seems to be the question.
    own = logged or rest[find_question(_spoken(rest)) :]
    said = _pair_tools(_write(known, steps, own))
    if not said:
        return History((*app, *rest), is_full=False)
    begin, is_full = _find_begin(said, len(known), budget)
    return History((*app, *_join_neighbours(said[begin:])), is_full)


def _spoken(messages: Sequence[ModelMessage]) -> list[Spoken]:
    return [Spoken(message["role"], has_calls=bool(message.get("tool_calls"))) for message in messages]


def _write(
    turns: Sequence[Turn], steps: Mapping[GenerationId, AnswerSteps], own: Sequence[ModelMessage]
) -> list[_Said]:
    """Return all turns one after the other, and the request's own messages as one more of them."""
    asked = [[_for_model(one) for one in turn.messages if not _is_only_shown(one)] for turn in turns] + [list(own)]
    said: list[_Said] = []
    answer_at, placed = 0, frozenset[object]()
    for number, messages in enumerate(asked):
        if messages and messages[0]["role"] == "assistant":
            # A client that repeats an answer has added something to it: this one counts.
            del said[answer_at:]
            placed = frozenset()
        said += [_Said(number, message) for message in messages if message.get("tool_call_id") not in placed]
        answer_at, placed = len(said), frozenset()
        if number < len(turns) and (spoken := steps.get(turns[number].answer.generation_id)):
            # What the browser's tools gave back, was said with the next question.
            given = [message for message in asked[number + 1] if message["role"] == "tool"]
            answer = spoken.messages(given)
            placed = frozenset(message["tool_call_id"] for message in answer if message["role"] == "tool")
            said += [_Said(number, message) for message in answer]
    return said


def _is_only_shown(event: MessageEvent) -> bool:
    """Tell whether it says nothing: it is in the log for what a client shows, and in no request."""
    fields = event.model_extra or {}
    return event.role == "assistant" and event.content is None and not fields.keys() - {"ui"}


def _for_model(event: MessageEvent) -> ModelMessage:
    fields = {name: value for name, value in event.model_dump().items() if name not in _OF_THE_LOG}
    return {"role": event.role, "content": event.content, **fields}


def _pair_tools(said: Iterable[_Said]) -> list[_Said]:
    """Return the messages without calls that have no output, and without outputs that have no call."""
    groups: list[list[_Said]] = []
    for one in said:
        if one.role == "tool" and groups:
            groups[-1].append(one)
        elif one.role != "tool":
            groups.append([one])
    return [one for head, *outputs in groups for one in _pair(head, outputs)]


def _pair(head: _Said, outputs: Sequence[_Said]) -> list[_Said]:
    found = {output.message.get("tool_call_id"): output for output in outputs}
    calls = {call["id"]: call for call in _calls_of(head.message) if call.get("id") in found}
    message = {name: value for name, value in head.message.items() if name != "tool_calls"}
    if calls:
        message["tool_calls"] = list(calls.values())
    elif head.role == "assistant" and not message.get("content"):
        return []
    return [replace(head, message=message), *(found[call_id] for call_id in calls)]


def _calls_of(message: ModelMessage) -> list[dict[str, Any]]:
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _find_begin(said: Sequence[_Said], own: int, budget: Budget) -> tuple[int, bool]:
    """Return where the history begins, with somebody's question, and whether the budget is the reason.

    The request itself, of the turn `own`, is never cut, nor the question that it goes on from.
    """
    first_own = next((at for at, one in enumerate(said) if one.turn == own), len(said))
    questions = [at for at, one in enumerate(said) if one.role == "user"]
    begin = first_own
    if not questions or questions[-1] < first_own:
        begin = questions[-1] if questions else 0
    messages = characters = sent = 0
    for at in range(len(said) - 1, -1, -1):
        counted, size = _measure(said[at].message)
        messages, characters, sent = messages + 1, characters + counted, sent + size
        is_over = messages > budget.messages or characters > budget.characters or sent > MOST_SENT
        if at < begin and is_over:
            return begin, True
        if at < begin and said[at].role == "user":
            begin = at
    return begin, False


def _measure(message: ModelMessage) -> tuple[int, int]:
    """Return the characters that a message counts, and about how many are sent."""
    content, calls = message.get("content"), message.get("tool_calls")
    parts = content if isinstance(content, list) else []
    files = [part for part in parts if not (isinstance(part, dict) and part.get("type") == "text")]
    sent = len(to_json([content, calls]).decode())
    return sent - sum(len(to_json(file).decode()) for file in files) + FILE_CHARACTERS * len(files), sent


def _join_neighbours(said: Iterable[_Said]) -> list[ModelMessage]:
    """Make one of what one side has said twice in a row: some models take turns strictly.

    Questions that were asked together stay as they were.
    """
    joined: list[_Said] = []
    for one in said:
        before = joined[-1] if joined else None
        were_together = before is not None and before.turn == one.turn and one.role == "user"
        if before and not were_together and _can_join(before.message, one.message):
            content = _join(before.message["content"], one.message["content"])
            joined[-1] = replace(one, message={**one.message, "content": content})
        else:
            joined.append(one)
    return [one.message for one in joined]


def _can_join(first: ModelMessage, second: ModelMessage) -> bool:
    are_plain = first.keys() == _PLAIN and second.keys() - {"tool_calls"} == _PLAIN
    return first["role"] == second["role"] and are_plain


def _join(first: Content, second: Content) -> Content:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    if not first or not second:
        return first or second
    return [*_parts_of(first), *_parts_of(second)]


def _parts_of(content: Content) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
