"""What an enqueue adds to the conversation in the log: messages that are not there yet. Without I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import ValidationError

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
from chunkspool.request import GenerationRequest, Message, check_json
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import NewEvents

MESSAGES_MAX: Final = 64
"""Messages that one enqueue writes: a script must be short."""
RECENT_MAX: Final = 64
"""Messages of which is remembered that they are in the log."""
_OF_THE_APP: Final = frozenset({"system", "developer"})
"""Roles whose messages are the app's own: readers do not see them."""
_KEY_DIGITS: Final = 10
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
    """What is asked with one generation: `earlier` and `new` messages of the conversation, and what it `replaces`.

    Earlier ones are written only where the log is empty.
    """

    earlier: tuple[Message, ...]
    new: tuple[Message, ...]
    replaces: Replaced | None = None

    @classmethod
    def of(cls, messages: Sequence[Message], replaced: Replaced | None) -> Asked:
        """Tell apart what a conversation has. Raises `InvalidRequest` for too much at once."""
        earlier, new = _split([message for message in messages if message.role not in _OF_THE_APP])
        if len(new) > MESSAGES_MAX:
            raise InvalidRequest(
                f"{len(new)} messages follow the last one of the assistant, and at most {MESSAGES_MAX} can be written "
                "into the log at once: pass keep_messages=False"
            )
        if replaced is not None:
            new = _edited(new, replaced)
        room = MESSAGES_MAX - len(new)
        return cls(earlier[max(0, len(earlier) - room) :], new, replaced)

    def fitting(self, limit: int) -> Asked:
        """Return it with as many of the earlier messages, the newest, as a request may have bytes.

        Raises `RequestTooLarge` if the new ones have more, for a message may have a `ui`; or `InvalidRequest`.
        """
        room = limit + MESSAGES_MAX * _FIELDS_BYTES
        for message in self.new:
            raw = encode(_event_of(message, "", 0))
            room -= len(raw)
            if message.ui is not None:
                check_json(raw)
        if room < 0:
            raise RequestTooLarge(limit + MESSAGES_MAX * _FIELDS_BYTES - room, limit)
        kept = 0
        for message in reversed(self.earlier):
            room -= len(encode(_event_of(message, "", 0)))
            if room < 0:
                break
            kept += 1
        return replace(self, earlier=self.earlier[len(self.earlier) - kept :])

    def events(self, generation_id: str, recent: Sequence[str], *, log_is_empty: bool = True) -> NewEvents:
        """Return what is written. `recent` are the keys of the messages that the log got last."""
        known = 0 if self.replaces else _known(self.new, recent)
        new = self.new[known:]
        earlier = self.earlier if log_is_empty else ()
        written = [_event_of(message, generation_id, number) for number, message in enumerate((*earlier, *new), 1)]
        replaced = self.replaces
        answers, replaces = (replaced.answers, replaced.generation_id) if replaced else (None, None)
        queued = GenerationQueued(
            generation_id=generation_id, answers=written[-1].id if new else answers, replaces=replaces
        )
        keys = [*recent, *map(_key_of_message, new)]
        return NewEvents(
            tuple(map(encode, written)),
            len(earlier),
            encode(queued),
            seen=tuple(recent),
            recent=tuple(keys[-RECENT_MAX:]),
            replaces=replaces or "",
        )


def recent_keys(messages: Sequence[MessageEvent]) -> tuple[str, ...]:
    """Return what is remembered of messages of a log, of which these are the newest."""
    return tuple(map(_key_of_event, messages[-RECENT_MAX:]))


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


def _message_of(event: MessageEvent) -> Message:
    fields = {**(event.model_extra or {}), "role": event.role, "content": event.content, "id": event.id}
    try:
        return Message.model_validate(fields)
    except ValidationError as error:
        raise CorruptLog(None, f"the message {shown(event.id)} is not one that chunkspool wrote") from error


def _split(spoken: Sequence[Message]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Return what comes up to the last message of the assistant, and what follows it, which is new.

    If the last of all is the assistant's and is to be continued (its tools have run, say), it is new itself.
    """
    last = max((at for at, message in enumerate(spoken) if message.role == "assistant"), default=-1)
    if last == len(spoken) - 1 and spoken and (spoken[-1].ui or {}).get("continues") is True:
        last -= 1
    return tuple(spoken[: last + 1]), tuple(spoken[last + 1 :])


def _edited(new: Sequence[Message], replaced: Replaced) -> tuple[Message, ...]:
    """Return what is not what the replaced generation was asked: nothing, where its question is the same.

    If the log began with a conversation from elsewhere, that stands with the question, and so it does with a new one.
    """
    if not new:
        return ()
    asked = replaced.asked
    begin = max((at for at, event in enumerate(asked, 1) if event.role == "assistant" and at < len(asked)), default=0)
    tail = tuple(new[-max(1, len(asked) - begin) :])
    if [_key_of_message(message) for message in tail] == [_key_of_event(event) for event in asked[begin:]]:
        return ()
    same = (at for at, event in enumerate(asked) if event.id == tail[0].id)
    return (*map(_message_of, asked[: next(same, begin)]), *tail)


def _known(new: Sequence[Message], recent: Sequence[str]) -> int:
    """Return how many of the first messages the log got last: those of an answer that failed, say.

    The last message is always new: who asks the same again wants another answer.
    """
    keys = [_key_of_message(message) for message in new]
    most = min(len(new) - 1, len(recent))
    return next((size for size in range(most, 0, -1) if list(recent[-size:]) == keys[:size]), 0)


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
    return hashlib.sha1(said, usedforsecurity=False).hexdigest()[:_KEY_DIGITS]
