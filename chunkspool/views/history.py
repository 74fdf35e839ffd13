"""A chat as an AI SDK front end has it: the messages that count, and the answer that is being written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_additions import with_additions
from chunkspool.dialects.usechat_chat import MessagePage
from chunkspool.dialects.usechat_conversation import Conversation
from chunkspool.dialects.usechat_json import encode_part
from chunkspool.dialects.usechat_logged import continued_by
from chunkspool.dialects.usechat_messages import UiMessage, UseChatRequest
from chunkspool.errors import ChatContended, ChatNotFound, CorruptLog, CursorExpired, InvalidRequest, shown
from chunkspool.events import Entry, MessageEvent
from chunkspool.results import ChatStatus, GenerationStatus, Transcript
from chunkspool.views.calls import SpoolCall
from chunkspool.views.chat_reading import RACES, ChatReading, ChatView, read_chat
from chunkspool.views.event_stream import EventStream

_NEWEST: Final = 8
"""Generations among which the newest of the log is: their ids are in the order of their makers' clocks."""
_PAGE: Final = 20


@dataclass(frozen=True, slots=True)
class ChatPage:
    """Some of a chat's messages, and the generations that are still being written: resume to follow the last.

    `before` is the id to ask for the messages in front of these; None where there are none.
    """

    messages: list[UiMessage]
    active: tuple[str, ...] = ()
    before: str | None = None

    def to_json(self) -> bytes:
        """Return it for the client."""
        messages = [message.model_dump(exclude_none=True) for message in self.messages]
        return encode_part({"messages": messages, "active": self.active, "before": self.before})


def find_answer(chat_id: str, sdk: int) -> ChatView[EventStream | None]:
    """Return the stream of the newest generation, from its beginning; None if it is not active.

    An older one that is still being written is not a client's last message, and only that can be followed.
    """
    try:
        newest, kept = yield from _find_newest(chat_id)
    except ChatNotFound:
        return None  # front ends ask on every page load, even before the first message
    if newest is None:
        return None
    if kept is not None and kept.generation_id == newest.generation_id:
        history = Conversation.of_transcript(kept.value)
        continued = history.continued if history else None
    else:
        continued = continued_by((yield from _find_asked(chat_id, newest)))
    encoder = UseChatEncoder(newest.generation_id, sdk=sdk, continued=continued, replays=True)
    return EventStream(chat_id, newest.after, newest.generation_id, encoder, merged=True)


def find_messages(
    chat_id: str, sdk: int, before: str | None, limit: int | None, *, within: float | None = None
) -> ChatView[ChatPage]:
    """Return the newest `limit` messages in front of the message `before`; none where there is no chat.

    Raises `InvalidRequest`, `CursorExpired`, or `ChatContended`; and `DigestUnfinished` after `within` seconds.
    """
    try:
        reading = yield from read_chat(chat_id, within, keeps_entries=limit is None)
        page = yield from reading.find_page(before, limit)
        found = yield from reading.build(page, sdk)
        status = yield from SpoolCall[ChatStatus](lambda spool: spool.status(chat_id, generation_ids=()))
    except ChatNotFound:
        return ChatPage([])
    # The status leaves out what has expired, the digest what has ended meanwhile.
    on_path = {turn.answer.generation_id for turn in reading.chat.turns}
    active = tuple(one for one in reading.digest.active if one in on_path and one in status.active)
    return ChatPage(found, active, page.before)


class KnownRequest(NamedTuple):
    """A request, as far as the log knows better what was said; and the generation that it wants once more."""

    body: UseChatRequest
    replaces: str | None = None


def find_known(body: UseChatRequest, sdk: int, *, within: float | None = None) -> ChatView[KnownRequest]:
    """Return the request with what the log has of the messages that it names.

    Raises what `find_messages` does.
    """
    continued = body.continued_message
    if continued is None and not body.asks_again:
        return KnownRequest(body)
    try:
        reading = yield from read_chat(body.id, within)
        if continued is not None:
            return KnownRequest((yield from _with_logged(reading, body, continued, sdk)))
        again = yield from reading.find_again(body)
    except (ChatNotFound, CursorExpired):
        return KnownRequest(body)
    if again is None:
        return KnownRequest(body)
    return KnownRequest(body if again.question is None else body.asking(again.question), again.generation_id)


def _with_logged(
    reading: ChatReading, body: UseChatRequest, continued: UiMessage, sdk: int
) -> ChatView[UseChatRequest]:
    """Return the request, which takes of its client what a browser may add to an answer: the rest is in the log."""
    found = yield from reading.find_message(continued.id)
    if found is None:
        return body
    if not found.is_of_assistant:
        raise InvalidRequest(f"the message {shown(continued.id)} is not the assistant's: it cannot be continued")
    (built,) = yield from reading.build(MessagePage((found,), None), sdk)
    # As a client gets it.
    logged = UiMessage.model_validate_json(encode_part(built.model_dump(exclude_none=True)))
    return body.continuing(with_additions(logged, continued))


def _find_newest(chat_id: str) -> ChatView[tuple[GenerationStatus | None, Transcript | None]]:
    """Return the newest generation if it is active, and the chat's transcript. Raises `ChatNotFound`."""
    for _ in range(RACES):
        seen = (yield from SpoolCall[ChatStatus](lambda spool: spool.status(chat_id, generation_ids=()))).active
        if not seen:
            return None, None
        kept = yield from SpoolCall[Transcript | None](lambda spool: spool.transcript(chat_id))
        status = yield from SpoolCall[ChatStatus](lambda spool: spool.status(chat_id, limit=_NEWEST))
        newest = max(status.generations, key=lambda one: one.after, default=None)
        if newest is None or newest.generation_id not in status.active:
            return None, None
        # Else it came meanwhile, maybe with a transcript of its own.
        if newest.generation_id in seen or (kept is not None and kept.generation_id == newest.generation_id):
            return newest, kept
    raise ChatContended(chat_id, "read its messages")


def _find_asked(chat_id: str, generation: GenerationStatus) -> ChatView[list[MessageEvent]]:
    """Return the messages that were asked with the generation: they are its first events."""
    asked: list[MessageEvent] = []
    after = generation.after
    while True:
        try:
            page = yield from _read(chat_id, after)
        except CorruptLog as error:
            if error.seq is None:
                raise
            after = error.seq
            continue
        for entry in page:
            if not isinstance(entry.event, MessageEvent):
                return asked
            asked.append(entry.event)
        if not page:
            return asked
        after = page[-1].seq


def _read(chat_id: str, after: int) -> SpoolCall[list[Entry]]:
    return SpoolCall[Any](lambda spool: spool.read(chat_id, after, _PAGE))
