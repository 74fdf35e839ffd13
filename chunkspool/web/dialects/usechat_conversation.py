"""A chat as UI messages: the history that its client sent last, and what has been answered since."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from chunkspool.events import Entry
from chunkspool.web.dialects.usechat import UseChatEncoder
from chunkspool.web.dialects.usechat_builder import MessageBuilder
from chunkspool.web.dialects.usechat_messages import UiMessage, UseChatRequest


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


class ChatMessages:
    """Collects a chat's messages. The generations are told apart, so their events may come in any order."""

    def __init__(
        self, conversation: Conversation, generation_id: str | None, *, sdk: int, earlier: Iterable[str] = ()
    ) -> None:
        """`conversation` is that of `generation_id`; the generations of `earlier` are in it already."""
        self._conversation = conversation
        self._generation_id = generation_id
        self._sdk = sdk
        self._earlier = frozenset(earlier)
        self._encoders: dict[str, UseChatEncoder] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry of the chat."""
        generation_id = entry.generation_id
        if not generation_id or generation_id in self._earlier:
            return
        encoder = self._encoders.get(generation_id)
        if encoder is None:
            continued = self._conversation.continued if generation_id == self._generation_id else None
            encoder = UseChatEncoder(generation_id, sdk=self._sdk, continued=continued)
            self._encoders[generation_id] = encoder
        encoder.add(entry)

    def is_active(self, generation_id: str) -> bool:
        """Return whether more of the generation's message is to come: its ending has not been added."""
        encoder = self._encoders.get(generation_id)
        return generation_id not in self._earlier and (encoder is None or not encoder.done)

    def build(self) -> list[UiMessage]:
        """Return the messages, in order. Nothing may be added afterwards."""
        messages = list(self._conversation.messages)
        for generation_id, encoder in self._encoders.items():
            continued_at = self._conversation.continued_at if generation_id == self._generation_id else None
            continued = None if continued_at is None else messages[continued_at]
            built = MessageBuilder(continued, sdk=self._sdk).take(encoder.take_chunks())
            if continued_at is None:
                messages.append(built)
            else:
                messages[continued_at] = built
        return messages
