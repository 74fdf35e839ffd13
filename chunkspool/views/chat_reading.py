"""Reads a chat's messages from its end, as far back as is needed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from chunkspool.conversation import conversation
from chunkspool.dialects.usechat_chat import Again, Chat, ChatMessage, MessagePage, PageBuilder
from chunkspool.dialects.usechat_conversation import Conversation, KeptAnswers
from chunkspool.dialects.usechat_messages import UiMessage, UseChatRequest
from chunkspool.errors import ChatContended, CursorExpired
from chunkspool.events import Entry
from chunkspool.fold import Answer, Folding
from chunkspool.results import ChatStatus, Transcript
from chunkspool.store.digests import Digest, DigestPart
from chunkspool.views.calls import SpoolCall

RACES: Final = 10
"""How often the state of a chat is read again because its client asked meanwhile."""
FIRST_GENERATIONS: Final = 32
"""So many of the newest are looked at first; where that is not enough, four times as many."""
_OF_THE_PATH: Final = frozenset({"message", "generation.queued"})
"""Types of the events that tell which answers count, and what they answer."""

T = TypeVar("T")
ChatView = Generator[SpoolCall[Any], Any, T]
"""A view of a chat: it yields calls of the spool, is sent what each has brought, and returns its own result."""


@dataclass(frozen=True, slots=True)
class History:
    """The history that a client sent last, if one is kept beside the log. The log has what follows `after`."""

    kept: KeptAnswers
    after: int = 0

    @classmethod
    def of(cls, transcript: Transcript | None) -> History:
        """Return what a transcript holds; nothing where another client has written it."""
        found = None if transcript is None else Conversation.of_transcript(transcript.value)
        if transcript is None or found is None:
            return cls(KeptAnswers((), {}))
        return cls(found.to_answers(transcript.generation_id), transcript.after)

    def follows(self) -> bool:
        """Return whether there is one."""
        return bool(self.kept.answers)


class ChatReading:
    """A chat as it stood at one moment, read from its newest generation on backwards."""

    def __init__(self, digest: Digest, history: History, later: list[str], *, keeps_entries: bool) -> None:
        """`later` are the generations that follow the history. With `keeps_entries`, none is read twice."""
        self.digest = digest
        self.chat = Chat((), {}, is_whole=False)
        self._history = history
        self._later = later
        self._answers: list[Answer] = []
        self._entries: list[Entry] | None = [] if keeps_entries else None
        self._generation_ids = frozenset(one for one, _ in digest.generations())

    def find_page(self, before: str | None, limit: int | None) -> ChatView[MessagePage]:
        """Return the newest `limit` messages in front of `before`. Raises `InvalidRequest`."""
        size = len(self._later) if limit is None else max(FIRST_GENERATIONS, 2 * limit)
        while True:
            yield from self._read_back(size)
            page = self.chat.find_page(before, limit)
            if page is not None:
                return page
            size *= 4

    def find_again(self, request: UseChatRequest) -> ChatView[Again | None]:
        """Return what the request wants once more; None where the log does not know it. Raises `InvalidRequest`."""
        found = yield from self._find(lambda chat: chat.find_again(request))
        return found if found and found.generation_id in self._generation_ids else None

    def find_message(self, message_id: str) -> ChatView[ChatMessage | None]:
        """Return the message of this id; that of a generation also where another version of it counts."""
        found = yield from self._find(lambda chat: chat.find_message(message_id))
        if found is None and message_id in self._generation_ids:
            return ChatMessage(message_id, message_id, answered_by=message_id)
        return found

    def _find(self, find: Callable[[Chat], T | None]) -> ChatView[T | None]:
        """Return what is found, as far back as is needed."""
        size, found = FIRST_GENERATIONS, None
        while found is None and not self.chat.is_whole:
            yield from self._read_back(size)
            found = find(self.chat)
            size *= 4
        return found

    def build(self, page: MessagePage, sdk: int) -> ChatView[list[UiMessage]]:
        """Return the page's messages, for a client whose SDK has the major version `sdk`."""
        builder, wanted = PageBuilder(page, sdk=sdk), page.generation_ids
        if self._entries is not None:
            for entry in self._entries:
                if entry.generation_id in wanted:
                    builder.add(entry)
            return builder.build()
        at = 0 if wanted and self.digest.blocks else None
        while at is not None:
            part = yield from _load(self.digest, wanted, at)
            for entry in part.entries:
                builder.add(entry)
            at = part.next
        return builder.build()

    def _read_back(self, size: int) -> ChatView[None]:
        """Read on, until the newest `size` generations are known."""
        begin = max(0, len(self._later) - size)
        missing = self._later[begin : len(self._later) - len(self._answers)]
        is_whole, kept = begin == 0, self._history.kept
        # The last answer of the history has its events in the log.
        also = [answer.generation_id for answer in kept.answers[-1:]] if is_whole else []
        self._answers = [*(yield from self._read(missing, also)), *self._answers]
        turns = conversation((*kept.answers, *self._answers) if is_whole else self._answers)
        answer_ids = self._generation_ids.union(answer.generation_id for answer in kept.answers)
        self.chat = Chat(turns, kept.messages, is_whole=is_whole, answer_ids=answer_ids)

    def _read(self, generation_ids: list[str], also: list[str]) -> ChatView[list[Answer]]:
        """Return what these generations answer and replace. Read the others `also`."""
        folding, wanted = Folding(), frozenset((*generation_ids, *also))
        at = 0 if wanted and self.digest.blocks else None
        while at is not None:
            part = yield from _load(self.digest, wanted, at)
            for entry in part.entries:
                if entry.type in _OF_THE_PATH:
                    folding.add(entry.event)
            if self._entries is not None:
                self._entries += part.entries
            at = part.next
        found = {answer.generation_id: answer for answer in folding.answers()}
        return [found.get(one) or Answer(one) for one in generation_ids]


def read_chat(chat_id: str, within: float | None, *, keeps_entries: bool = False) -> ChatView[ChatReading]:
    """Begin to read a chat. Raises `ChatNotFound`, `CursorExpired`, `ChatContended`, or `DigestUnfinished`."""
    for _ in range(RACES):
        digest = yield from SpoolCall[Digest](lambda spool: spool.digest(chat_id, within=within), reads_whole=True)
        transcript = yield from SpoolCall[Transcript | None](lambda spool: spool.transcript(chat_id))
        # Else another generation came meanwhile, and maybe another history.
        if transcript is None or transcript.after < digest.seq:
            break
    else:
        raise ChatContended(chat_id, "read its messages")
    history = History.of(transcript)
    if digest.has_gaps or (history.follows() and digest.first > history.after + 1):
        raise CursorExpired(history.after, digest.first, digest.seq)
    later = [one for one, seq in digest.generations() if seq > history.after]
    if history.follows():
        later = yield from _without_earlier(chat_id, later, history)
    return ChatReading(digest, history, later, keeps_entries=keeps_entries)


def _without_earlier(chat_id: str, generation_ids: list[str], history: History) -> ChatView[list[str]]:
    """Return the generations without those of the history: it has its own, and their first events may be gone."""
    found = yield from _status(chat_id, generation_ids)
    earlier = {one.generation_id for one in found.generations if one.after < history.after}
    own = {answer.generation_id for answer in history.kept.answers}
    return [one for one in generation_ids if one not in earlier | own]


def _status(chat_id: str, generation_ids: Collection[str]) -> SpoolCall[ChatStatus]:
    return SpoolCall(lambda spool: spool.status(chat_id, generation_ids=generation_ids))


def _load(digest: Digest, generation_ids: Collection[str], at: int) -> SpoolCall[DigestPart]:
    return SpoolCall(lambda spool: spool.load_digest(digest, generation_ids, at))
