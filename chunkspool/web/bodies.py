"""What the JSON routes take and give."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from chunkspool.chat import Stop
from chunkspool.keys import ID_PATTERN, MAX_ID_LENGTH
from chunkspool.request import MAX_REASON, Message

Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH)]


class _Body(BaseModel):
    """A request's body: what it does not know, it refuses."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AskBody(_Body):
    """Either a `prompt` (one user message) or `messages` (the whole conversation, chat-completions shape)."""

    prompt: str | None = Field(default=None, examples=["Why is the sky blue?"])
    messages: list[Message] | None = None
    model: str | None = Field(default=None, min_length=1, max_length=200)
    request_id: Id | None = Field(default=None, description="the same one again is the same generation, not another")
    on_active: Literal["reject", "replace", "allow"] = Field(
        default="reject", description="what to do while the chat is busy"
    )
    params: dict[str, JsonValue] | None = Field(default=None, description="for the model's provider, as they are")


class StopBody(_Body):
    """Which generation to stop; without one, all that are active in the chat."""

    generation_id: Id | None = None
    reason: str | None = Field(default=None, max_length=MAX_REASON)


class Links(BaseModel):
    """Where to go on."""

    events: str
    stop: str
    chat: str


class Asked(BaseModel):
    """A generation is on its way; its first event comes after the cursor `after`."""

    generation_id: str
    chat_id: str
    after: int
    links: Links


class StopReply(BaseModel):
    """What became of each generation."""

    stops: tuple[Stop, ...]


class Health(BaseModel):
    """The process lives, or is ready."""

    status: Literal["ok"] = "ok"
