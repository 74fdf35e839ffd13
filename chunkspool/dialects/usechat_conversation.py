"""The history that a client sent last, where it is kept beside the log: as the turns that the log would have had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from chunkspool.dialects.usechat_logged import to_message_event
from chunkspool.dialects.usechat_messages import UiMessage, UseChatRequest
from chunkspool.events import MessageEvent
from chunkspool.fold import Answer


class KeptAnswers(NamedTuple):
    """The answers of a conversation, each with what was asked; and what the client had of each but the last."""

    answers: tuple[Answer, ...]
    messages: Mapping[str, UiMessage]


class Conversation(BaseModel):
    """What is kept with a generation: the messages that its client had, and the place of the one that it continues."""

    model_config = ConfigDict(frozen=True)

    messages: tuple[UiMessage, ...]
    continued_at: Annotated[int, Field(ge=0)] | None = None

    @classmethod
    def of_request(cls, request: UseChatRequest) -> Self:
        """Return what to keep of a request."""
        continued = request.continued_message
        places = (at for at, message in enumerate(request.sent) if message is continued)
        return cls(messages=tuple(request.sent), continued_at=next(places, None))

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

    def to_answers(self, generation_id: str) -> KeptAnswers:
        """Return the answers up to that of `generation_id`, with which the conversation is kept.

        An assistant's message has the id of the generation that wrote it.
        """
        answers: list[Answer] = []
        asked: list[MessageEvent] = []
        messages: dict[str, UiMessage] = {}
        for message in self.messages:
            is_answer = message.role == "assistant" and message.id not in {"", generation_id}
            if not is_answer or message.id in messages:
                asked.append(to_message_event(message, generation_id))
                continue
            answers.append(Answer(message.id, asked=tuple(asked)))
            messages[message.id] = message
            asked = []
        if self.continued is not None:
            asked.append(to_message_event(self.continued, generation_id, continues=True))
        return KeptAnswers((*answers, Answer(generation_id, asked=tuple(asked))), messages)
