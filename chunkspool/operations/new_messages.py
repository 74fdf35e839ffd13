"""What an enqueue adds to the conversation in the log: messages that are not there yet. Without I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from chunkspool.conversation import asked_by
from chunkspool.effects import Operation
from chunkspool.errors import (
    ChatNotFound,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    GenerationNotFound,
    InvalidRequest,
    RequestTooLarge,
    shown,
)
from chunkspool.events import GenerationQueued, MessageEvent, encode
from chunkspool.fold import Answer
from chunkspool.ids import checked_id
from chunkspool.json_text import to_valid_json
from chunkspool.operations.folding import fold_answers
from chunkspool.operations.what_is_new import USER, Spoken, find_new, find_question
from chunkspool.request import GenerationRequest, Message, check_json
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import NewEvents

MESSAGES_MAX: Final = 64
"""Messages that one enqueue writes: a script must be short."""
RECENT_MAX: Final = 64
"""Messages of which is remembered that they are in the log."""
_OF_THE_APP: Final = frozenset({"system", "developer"})
"""Roles whose messages are the app's own: readers do not see them."""
_KEY_DIGITS: Final = 9
_VERSIONS_MAX: Final = 1000
_MADE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}\.[0-9]+")
"""An id that a message has in the log because nobody gave it one; a client that has read it there may send it back."""
_FIELDS_BYTES: Final = 200
"""What an event has besides its message."""


@dataclass(frozen=True, slots=True)
class Replaced:
    """The generation that is asked for once more: which messages it answers, and the id of the last of them."""

    generation_id: str
    asked: tuple[MessageEvent, ...]
    answers: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked with one generation: what was `spoken` of the conversation, and what it `replaces`.

    `limit`: how many bytes a request may have.
    """

    spoken: tuple[Message, ...]
    replaces: Replaced | None
    limit: int

    @classmethod
    def of(cls, request: GenerationRequest, replaced: Replaced | None, limit: int, *, keeps: bool) -> Asked:
        """Return what a request asks; nothing that is to be written, unless it `keeps` messages.

        Raises `InvalidRequest`, or `RequestTooLarge`: for the log, a message may have a `ui`.
        """
        spoken = [message for message in request.messages if message.role not in _OF_THE_APP] if keeps else []
        asked = cls(tuple(spoken), replaced, limit)
        for message in spoken:
            if message.ui is not None:
                check_json(encode(_event_of(message, "", 0)))
        new = asked._new((), log_is_empty=False)
        if request.history and len(new) > MESSAGES_MAX:
            # A model with a history gets what the log has.
            raise InvalidRequest(f"{len(new)} messages are new, and with history at most {MESSAGES_MAX} may be")
        asked.events("", (), log_is_empty=False)
        return asked

    def events(self, generation_id: str, recent: Sequence[str], *, log_is_empty: bool) -> NewEvents:
        """Return what is written. `recent` are the keys of the messages that the log got last.

        Of a conversation from elsewhere, that is as much as a request may have bytes, the newest.
        """
        new = self._new(recent, log_is_empty=log_is_empty)[-MESSAGES_MAX:]
        room = self.limit + MESSAGES_MAX * _FIELDS_BYTES - sum(map(_size_of, new))
        if room < 0:
            raise RequestTooLarge(self.limit - room, self.limit)
        imported = self.spoken[: len(self.spoken) - len(new)] if log_is_empty and self.replaces is None else ()
        earlier = _newest_that_fit(imported, MESSAGES_MAX - len(new), room)
        written = [_event_of(message, generation_id, number) for number, message in enumerate((*earlier, *new), 1)]
        replaced = self.replaces
        answers, replaces = (replaced.answers, replaced.generation_id) if replaced else (None, None)
        if new:
            said = [event for event in written[len(earlier) :] if event.role != "assistant"]
            answers = (said or written)[-1].id
        queued = GenerationQueued(generation_id=generation_id, answers=answers, replaces=replaces)
        keys = [*self._kept(recent), *_keys_of((*earlier, *new))]
        if not new and replaced:
            keys += recent_keys(replaced.asked)
        return NewEvents(
            tuple(map(encode, written)),
            len(earlier),
            encode(queued),
            seen=tuple(recent),
            recent=tuple(keys[-RECENT_MAX:]),
            replaces=replaces or "",
        )

    def _kept(self, recent: Sequence[str]) -> Sequence[str]:
        """Return the keys without those of what is replaced, and of what came after it."""
        old = recent_keys(self.replaces.asked) if self.replaces else ()
        starts = range(len(recent) - len(old), -1, -1) if old else ()
        return recent[: next((at for at in starts if tuple(recent[at : at + len(old)]) == old), len(recent))]

    def _new(self, recent: Sequence[str], *, log_is_empty: bool) -> tuple[Message, ...]:
        if self.replaces is not None:
            return _edited(self.spoken, self.replaces)
        spoken = [_spoken(message) for message in self.spoken]
        places = range(find_question(spoken), len(spoken)) if log_is_empty else find_new(spoken, recent)
        return tuple([self.spoken[at] for at in places])


def _spoken(message: Message) -> Spoken:
    has_calls = bool((message.model_extra or {}).get("tool_calls"))
    # What is only repeated is no news, however it is shown.
    is_continued = (message.ui or {}).get("continues") is True
    return Spoken(message.role, _key_of_message(message), has_calls, is_continued)


def _size_of(message: Message) -> int:
    return len(encode(_event_of(message, "", 0)))


def _newest_that_fit(messages: Sequence[Message], most: int, room: int) -> Sequence[Message]:
    kept = 0
    for message in reversed(messages):
        room -= _size_of(message)
        if room < 0 or kept == most:
            break
        kept += 1
    return messages[len(messages) - kept :]


def _keys_of(messages: Sequence[Message]) -> list[str]:
    return [_key_of_message(message) for message in messages if message.role != "assistant"]


def recent_keys(messages: Sequence[MessageEvent]) -> tuple[str, ...]:
    """Return what is remembered of messages of a log, of which these are the newest."""
    return tuple([_key_of_event(message) for message in messages if message.role != "assistant"][-RECENT_MAX:])


def find_replaced(keys: ChatKeys, generation_id: str) -> Operation[Replaced]:
    """Find what a generation answers, in the log. Raises `GenerationNotFound`."""
    wanted, found = checked_id("generation_id", generation_id), dict[str, Answer]()
    next_id: str | None = wanted
    while next_id is not None and next_id not in found and len(found) < _VERSIONS_MAX:
        try:
            answers = yield from fold_answers(keys, {next_id})
        except (ChatNotFound, CursorExpired, CursorAhead):
            answers = ()
        if not answers:
            break
        found[next_id] = answers[0]
        # What another version was asked, stands with the oldest.
        next_id = None if answers[0].asked else answers[0].replaces
    if wanted not in found:
        raise GenerationNotFound(keys.chat_id, wanted)
    asked = asked_by(found[wanted], found)
    told = found[wanted].answers
    return Replaced(wanted, asked, told if told or not asked else asked[-1].id)


def ask_again(request: GenerationRequest, replaced: Replaced) -> GenerationRequest:
    """Return the request with the messages that the replaced generation answers, behind those of the app.

    Raises `InvalidRequest` where the log does not have them.
    """
    if any(message.role not in _OF_THE_APP for message in request.messages):
        return request
    if not replaced.asked:
        raise InvalidRequest(
            f"the log does not have the question that generation {replaced.generation_id} answers: "
            "pass prompt= or messages="
        )
    messages = [*request.messages, *map(_message_of, replaced.asked)]
    return request.model_copy(update={"messages": messages, "history": True})


def edit_question(request: GenerationRequest, replaced: Replaced) -> GenerationRequest:
    """Return the request whose last message has the new text of the question that the replaced generation answers.

    What else was asked with that question stays: its pictures and files, its `name`, the tool outputs before it. Raises
    `InvalidRequest` where the generation answers no question; if the log keeps none, the text is all that is asked.
    """
    *of_the_app, edit = request.messages
    asked = replaced.asked
    if not asked:
        return request
    begin = max((at for at, event in enumerate(asked, 1) if event.role == "assistant" and at < len(asked)), default=0)
    question = max((at for at in range(begin, len(asked)) if asked[at].role == "user"), default=-1)
    if question < 0:
        raise InvalidRequest(f"generation {replaced.generation_id} answers no question: pass messages=")
    # What the assistant said to the old text is not asked again.
    after = [event for event in asked[question + 1 :] if event.role != "assistant"]
    edited = _with_text(_message_of(asked[question]), str(edit.content))
    messages = [*of_the_app, *map(_message_of, asked[:question]), edited, *map(_message_of, after)]
    return request.model_copy(update={"messages": messages})


def _with_text(question: Message, text: str) -> Message:
    """Return a new message: the question with this text in the place of its first one."""
    content: str | list[dict[str, JsonValue]] = text
    if isinstance(question.content, list):
        parts = question.content
        place = next((at for at, part in enumerate(parts) if part.get("type") == "text"), 0)
        before, behind = (
            [part for part in some if part.get("type") != "text"] for some in (parts[:place], parts[place:])
        )
        content = [*before, {"type": "text", "text": text}, *behind]
    return Message.model_validate({**(question.model_extra or {}), "role": "user", "content": content})


def _message_of(event: MessageEvent) -> Message:
    fields = {**(event.model_extra or {}), "role": event.role, "content": event.content, "id": event.id}
    try:
        return Message.model_validate(fields)
    except ValidationError as error:
        raise CorruptLog(None, f"the message {shown(event.id)} is not one that chunkspool wrote") from error


def _edited(spoken: Sequence[Message], replaced: Replaced) -> tuple[Message, ...]:
    """Return what is not what the replaced generation was asked: nothing, where its question is the same.

    If the log began with a conversation from elsewhere, that stands with the question, and so it does with a new one.
    """
    new = spoken[find_question([_spoken(message) for message in spoken]) :]
    asked = replaced.asked
    begin = max((at for at, event in enumerate(asked, 1) if event.role == "assistant" and at < len(asked)), default=0)
    most, known = max(1, len(asked) - begin), [_key_of_event(event) for event in asked[begin:]]
    question = _without_answer(new)
    if not question or known in ([*map(_key_of_message, new[-most:])], [*map(_key_of_message, question[-most:])]):
        return ()
    tail = question[-most:]
    same = (at for at, event in enumerate(asked) if event.id == tail[0].id)
    return (*map(_message_of, asked[: next(same, begin)]), *tail)


def _without_answer(spoken: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages without an answer behind them that a client repeats: it is no part of the question."""
    end = len(spoken)
    while end and spoken[end - 1].role == "assistant" and not _spoken(spoken[end - 1]).is_shown:
        end -= 1
    return tuple(spoken[:end])


def _event_of(message: Message, generation_id: str, number: int) -> MessageEvent:
    fields: dict[str, Any] = {**(message.model_extra or {})}
    # An event has fields of its own, which no message sets.
    fields = {name: value for name, value in fields.items() if name not in {"type", "generation", "generation_id"}}
    if message.ui is not None:
        fields["ui"] = message.ui
    return MessageEvent(
        generation_id=generation_id,
        id=message.id or f"{generation_id}.{number}",
        role=message.role,
        content=message.content,  # type: ignore[arg-type] # a list of objects is a list of JSON
        **fields,
    )


def _key_of_message(message: Message) -> str:
    return _key(message.id, message.role, message.content, message.model_extra)


def _key_of_event(event: MessageEvent) -> str:
    extra = {name: value for name, value in (event.model_extra or {}).items() if name != "ui"}
    return _key(event.id, event.role, event.content, extra)


def _key(own_id: str | None, role: str, content: object, extra: object) -> str:
    is_made = own_id is not None and _MADE_ID.fullmatch(own_id)
    said = to_valid_json([None if is_made else own_id, role, content, extra or {}])
    return (USER if role == "user" else "t") + hashlib.sha1(said, usedforsecurity=False).hexdigest()[:_KEY_DIGITS]
