"""Request and response bodies of the JSON routes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue
from pydantic.json_schema import SkipJsonSchema

from chunkspool.dialects.usechat_messages import UiMessage
from chunkspool.ids import ID_PATTERN, MAX_ID_LENGTH, GenerationId
from chunkspool.operations.chats import MAX_TITLE
from chunkspool.request import MAX_REASON, Message
from chunkspool.results import ChatSummary, Stop
from chunkspool.states import OnActive, SeenState

Absent = SkipJsonSchema[None]
"""Marks an optional field. An explicit null is accepted, too, but the OpenAPI document does not offer it."""
Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH)]
"""Text that can be an id."""


def _without_ui(message: Message) -> Message:
    """Return the message. How another client shows it, is not for its sender to say, whatever a hook lets pass."""
    if message.ui is not None:
        raise ValueError("'ui' is not allowed: what is shown of a message is its content")
    return message


class _Body(BaseModel):
    """A request's body. Unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AskBody(_Body):
    """Either a `prompt` (one user message) or `messages` (the whole conversation, chat-completions shape).

    With `replaces` alone, it is another version of that answer. With `replaces` and a `prompt`, its question gets that
    text; what else was asked with it (pictures, files, tool outputs) stays.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}, {"required": ["replaces"]}]}
    )

    prompt: Annotated[str, Field(pattern=r"\S", examples=["Why is the sky blue?"])] | Absent = None
    messages: Annotated[list[Annotated[Message, AfterValidator(_without_ui)]], Field(min_length=1)] | Absent = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | Absent = Field(
        default=None, description="one of those that the app lets a user choose"
    )
    request_id: Id | Absent = Field(
        default=None, description="a repeated request with the same id returns the same generation"
    )
    on_active: OnActive = Field(
        "reject",
        description="what to do while another generation is active: refuse, stop it (`replace`), begin after it "
        "(`queue`), or run beside it (`allow`: only where the app lets a user)",
    )
    replaces: Id | Absent = Field(
        default=None, description="a generation of which this is another version, of the same question or an edited one"
    )
    history: bool | Absent = Field(
        default=None, description="whether the model gets what the log has of the conversation before these messages"
    )
    params: dict[str, JsonValue] | Absent = Field(
        default=None, description="those that the app lets a user set, for the model's provider"
    )


class StopBody(_Body):
    """Which generation to stop; without one, all that are active in the chat."""

    generation_id: Annotated[Id | Absent, Field(alias="generation")] = None
    reason: Annotated[str, Field(max_length=MAX_REASON)] | Absent = None


class ForkBody(_Body):
    """Which chat to make, and up to which event: its seq or its `id:`. Without `at`, of all that there is."""

    to: Id
    at: (
        Annotated[int, Field(ge=1)]
        | Annotated[str, Field(max_length=50, examples=["17.393e2c19ed65-1a21e447f43"])]
        | Absent
    ) = None


class Links(BaseModel):
    """Paths for the next requests."""

    events: str
    stop: str
    chat: str


class AskResponse(BaseModel):
    """The generation was enqueued; its first event follows the cursor `after`."""

    generation_id: GenerationId
    chat_id: str
    after: int
    links: Links


class ForkResponse(BaseModel):
    """The chat was made. `seq` and `cursor` are the end of its log."""

    chat_id: str
    seq: int
    cursor: str
    links: Links


class StopResponse(BaseModel):
    """The outcome for each generation."""

    stops: tuple[Stop, ...]


class TitleBody(_Body):
    """A title for the chat, one line; null takes it away."""

    title: Annotated[str, Field(min_length=1, max_length=MAX_TITLE)] | None


class ListedChat(BaseModel):
    """A chat of the list: see `ChatSummary`. `state` is that of its newest `generation`."""

    chat_id: str
    title: str | None
    state: SeenState | None
    generation: str | None
    active: tuple[str, ...]
    last: int
    created: int
    asked: int

    @classmethod
    def of(cls, summary: ChatSummary) -> Self:
        """Return what a client sees of a chat."""
        newest = summary.newest
        return cls(
            chat_id=summary.chat_id,
            title=summary.title,
            state=None if newest is None else newest.state,
            generation=None if newest is None else newest.generation_id,
            active=summary.active,
            last=summary.last,
            created=summary.created,
            asked=summary.asked,
        )


class ChatsResponse(BaseModel):
    """Some chats, the one that was asked last first. `before` asks for those after these; null at the end.

    `failed` are chats that cannot be read.
    """

    chats: list[ListedChat]
    before: str | None = None
    failed: list[str] = Field(default_factory=list)


class MessagesResponse(BaseModel):
    """A chat as messages of the AI SDK, and the generations that are still being written: resume to follow the last.

    `before` is the id to ask for the messages in front of these; null where there are none.
    """

    messages: list[UiMessage]
    active: tuple[str, ...]
    before: str | None = None


class Health(BaseModel):
    """The process is alive, or ready."""

    status: Literal["ok"] = "ok"
