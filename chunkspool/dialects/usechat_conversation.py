"""A chat as UI messages: the history that its client sent last, and what has been answered since."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_builder import MessageBuilder
from chunkspool.dialects.usechat_messages import UiMessage, UseChatRequest
from chunkspool.errors import InvalidRequest, shown
from chunkspool.events import Entry


class Conversation(BaseModel):
    """What is kept with a generation: the messages that its client had, and the place of the one that it continues."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[UiMessage, ...]
    continued_at: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def of_request(cls, request: UseChatRequest) -> Self:
        """Return what to keep of a request."""
        continued = request.continued_message
        places = (at for at, message in enumerate(request.messages) if message is continued)
        return cls(messages=tuple(request.messages), continued_at=next(places, None))

    @classmethod
    def of_transcript(cls, value: JsonValue) -> Self | None:
        """Return what was kept; None for a transcript that this dialect has not written."""
        try:
            kept = cls.model_validate(value)
        except ValidationError:
            return None
        return kept if kept.continued_at is None or kept.continued_at < len(kept.messages) else None

    def to_transcript(self) -> JsonValue:
        """Return what `of_transcript` takes."""
        value: JsonValue = self.model_dump(mode="python", exclude_unset=True)
        return value

    @property
    def continued(self) -> UiMessage | None:
        """The message that the generation continues."""
        return None if self.continued_at is None else self.messages[self.continued_at]


@dataclass(frozen=True, slots=True)
class MessagePage:
    """Some of a chat's messages: those from `start` to `end`. Their events are those of `generation_ids`.

    `before` is the id of the first one, if there are others in front of it.
    """

    start: int
    end: int
    generation_ids: frozenset[str]
    before: str | None


class ChatMessages:
    """Collects a chat's messages: those of the client's history, then an answer for each later generation.

    The generations are told apart, so their events may come in any order.
    """

    def __init__(
        self, conversation: Conversation, generation_id: str | None, later: Sequence[str], *, sdk: int
    ) -> None:
        """`conversation` is that of `generation_id`; `later` are this one and those after it, in order."""
        self.later = tuple(later)
        self._conversation = conversation
        # The generation that continues one of the messages has none of its own.
        self._continuing = generation_id if conversation.continued and generation_id in later else None
        self._later = [one for one in later if one != self._continuing]
        self._sdk = sdk
        self._encoders: dict[str, UseChatEncoder] = {}

    def page(self, before: str | None, limit: int | None) -> MessagePage:
        """Return the page of the newest `limit` messages in front of `before`. Raises `InvalidRequest`."""
        ids = [message.id for message in self._conversation.messages] + self._later
        end = len(ids)
        if before is not None:
            if before not in ids:
                raise InvalidRequest(f"before={shown(before)}: the chat has no message of this id")
            end = ids.index(before)
        start = 0 if limit is None else max(0, end - limit)
        own = len(self._conversation.messages)
        wanted = set(self._later[max(0, start - own) : max(0, end - own)])
        if self._continuing and start <= (self._conversation.continued_at or 0) < end:
            wanted.add(self._continuing)
        return MessagePage(start, end, frozenset(wanted), ids[start] if start else None)

    def add(self, entry: Entry) -> None:
        """Add an entry of one of the page's generations."""
        generation_id = entry.generation_id
        encoder = self._encoders.get(generation_id)
        if encoder is None:
            continued = self._conversation.continued if generation_id == self._continuing else None
            encoder = UseChatEncoder(generation_id, sdk=self._sdk, continued=continued)
            self._encoders[generation_id] = encoder
        encoder.add(entry)

    def build(self, page: MessagePage) -> list[UiMessage]:
        """Return the page's messages, in order. Nothing may be added afterwards."""
        own = self._conversation.messages
        messages = list(own[page.start : page.end])
        if self._continuing in page.generation_ids and self._conversation.continued_at is not None:
            messages[self._conversation.continued_at - page.start] = self._build(self._continuing)
        later = self._later[max(0, page.start - len(own)) : max(0, page.end - len(own))]
        return messages + [self._build(generation_id) for generation_id in later]

    def _build(self, generation_id: str) -> UiMessage:
        continued = self._conversation.continued if generation_id == self._continuing else None
        return MessageBuilder(continued, sdk=self._sdk).take(self._encoders[generation_id].take_chunks())
