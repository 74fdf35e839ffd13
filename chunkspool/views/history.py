"""A chat as an AI SDK front end has it: the history that it sent last, and what has been answered since."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_conversation import ChatMessages, Conversation, MessagePage
from chunkspool.dialects.usechat_json import encode_part
from chunkspool.dialects.usechat_messages import UiMessage
from chunkspool.errors import ChatContended, ChatNotFound, CursorExpired
from chunkspool.results import ChatStatus, Transcript
from chunkspool.store.digests import Digest, DigestPart
from chunkspool.views.calls import SpoolCall
from chunkspool.views.event_stream import EventStream

RACES = 10
"""How often the state of a chat is read again because its client asked meanwhile."""

T = TypeVar("T")
ChatView = Generator[SpoolCall[Any], Any, T]
"""A view of a chat: it yields calls of the spool, is sent what each has brought, and returns its own result."""


@dataclass(frozen=True, slots=True)
class History:
    """The newest history of a chat's clients. What stands before `after` is in it, or was dropped by the client."""

    conversation: Conversation
    generation_id: str | None
    after: int


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
    """Return the stream of the newest active generation, from its beginning; None if none is active."""
    try:
        status, history = yield from _find_history(chat_id)
    except ChatNotFound:
        return None  # front ends ask on every page load, even before the first message
    active = [one for one in status.generations if one.generation_id in status.active and one.after >= history.after]
    if not active:
        return None
    newest = active[-1]
    continued = history.conversation.continued if history.generation_id == newest.generation_id else None
    encoder = UseChatEncoder(newest.generation_id, sdk=sdk, continued=continued, replays=True)
    return EventStream(chat_id, newest.after, newest.generation_id, encoder, merged=True)


def find_messages(
    chat_id: str, sdk: int, before: str | None, limit: int | None, *, within: float | None = None
) -> ChatView[ChatPage]:
    """Return the newest `limit` messages in front of the message `before`; none where there is no chat.

    Raises `InvalidRequest`, `CursorExpired`, or `ChatContended`; and `DigestUnfinished` after `within` seconds.
    """
    try:
        status, history = yield from _find_history(chat_id)
        digest = yield from SpoolCall[Digest](
            lambda spool: spool.digest(chat_id, after=history.after, within=within), reads_whole=True
        )
        if digest.has_gaps or (history.generation_id and digest.first > history.after + 1):
            raise CursorExpired(history.after, digest.first, digest.seq)
        later = yield from _find_later(chat_id, digest, history)
        chat = ChatMessages(history.conversation, history.generation_id, later, sdk=sdk)
        found = yield from _collect(digest, chat, chat.page(before, limit))
    except ChatNotFound:
        return ChatPage([])
    # The status leaves out what has expired, the digest what has ended meanwhile.
    active = tuple(one for one in digest.active if one in chat.later and one in status.active)
    return ChatPage(found, active, chat.page(before, limit).before)


def _find_later(chat_id: str, digest: Digest, history: History) -> ChatView[list[str]]:
    """Return the generations that are not in the history, in order."""
    begun = [one for one, seq in digest.generations() if seq > history.after]
    if not history.after:
        return begun
    # Those that go on from before it: here, their first event is none.
    found = (yield from _status(chat_id, begun)).generations
    earlier = {one.generation_id for one in found if one.after < history.after}
    return [one for one in begun if one not in earlier]


def _collect(digest: Digest, chat: ChatMessages, page: MessagePage) -> ChatView[list[UiMessage]]:
    """Build the messages of one page."""
    at = 0 if digest.blocks and page.generation_ids else None
    while at is not None:
        part = yield from _load(digest, page.generation_ids, at)
        for entry in part.entries:
            chat.add(entry)
        at = part.next
    return chat.build(page)


def _find_history(chat_id: str) -> ChatView[tuple[ChatStatus, History]]:
    """Return how the chat and its active generations stand, and its newest history. Raises `ChatNotFound`."""
    for _ in range(RACES):
        active = (yield from _status(chat_id, ())).active
        kept = yield from SpoolCall[Transcript | None](lambda spool: spool.transcript(chat_id))
        holder = () if kept is None else (kept.generation_id,)
        status = yield from _status(chat_id, (*active, *holder))
        # Else another generation came meanwhile, and maybe another history.
        if status.active == active and all(_is_among(one, status) for one in holder):
            conversation = Conversation.of_transcript(kept.value) if kept else None
            if kept is None or conversation is None:
                return status, History(Conversation(messages=()), None, 0)
            return status, History(conversation, kept.generation_id, kept.after)
    raise ChatContended(chat_id, "read its messages")


def _is_among(generation_id: str, status: ChatStatus) -> bool:
    return any(one.generation_id == generation_id for one in status.generations)


def _status(chat_id: str, generation_ids: Collection[str]) -> SpoolCall[ChatStatus]:
    return SpoolCall(lambda spool: spool.status(chat_id, generation_ids=generation_ids))


def _load(digest: Digest, generation_ids: Collection[str], at: int) -> SpoolCall[DigestPart]:
    return SpoolCall(lambda spool: spool.load_digest(digest, generation_ids, at))
