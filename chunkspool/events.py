"""The events of a log: what is written once, stored as it is and passed on as it is."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic_core import PydanticSerializationError, from_json

from chunkspool.errors import CorruptLog
from chunkspool.json_text import to_valid_json


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class _Event(BaseModel):
    """What all events share. Fields that a newer version added are kept. On the wire the id's name is `generation`."""

    model_config = ConfigDict(frozen=True, extra="allow", validate_by_name=True, serialize_by_alias=True)

    type: str
    generation_id: str = Field(validation_alias="generation", serialization_alias="generation")


class MessageEvent(_Event):
    """What was said to the model, as it was given: it stands before the `generation.queued` that answers it.

    `id` is the client's, or made of the generation's. `content` is a text or parts in the chat-completions shape.
    Further fields (name, tool_calls, tool_call_id, …) are kept; `ui` is the message as an AI SDK client shows it.
    """

    type: Literal["message"] = "message"
    id: str
    role: str
    content: str | list[JsonValue] | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_none(write(self))


class GenerationQueued(_Event):
    """The generation is in the log and its message is on the way to a worker.

    It answers the message `answers`, and is another version of the generation `replaces`; None where that was not said.
    """

    type: Literal["generation.queued"] = "generation.queued"
    answers: str | None = None
    replaces: str | None = None

    @model_serializer(mode="wrap")
    def _without_absent(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What was not said takes no bytes of the log.
        return _without_none(write(self))


class GenerationStarted(_Event):
    """An attempt began. The text of earlier attempts is void, unless `continues`."""

    type: Literal["generation.started"] = "generation.started"
    attempt: int
    model: str | None = None
    continues: bool = False


class TextDelta(_Event):
    """A piece of the answer."""

    type: Literal["text.delta"] = "text.delta"
    text: str


class ReasoningDelta(_Event):
    """A piece of the model's thinking."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class ToolCallEvent(_Event):
    """The model calls a tool; `arguments` is the JSON text as the model wrote it."""

    type: Literal["tool.call"] = "tool.call"
    id: str
    name: str
    arguments: str


class ToolResultEvent(_Event):
    """What a tool gave back for the call with this `id`."""

    type: Literal["tool.result"] = "tool.result"
    id: str
    output: JsonValue


class DataEvent(_Event):
    """The app's own event."""

    type: Literal["data"] = "data"
    name: str
    value: JsonValue


class UsageEvent(_Event):
    """Tokens paid for, as the provider counts them."""

    type: Literal["usage"] = "usage"
    input_tokens: int
    output_tokens: int


class GenerationCompleted(_Event):
    """The model ended by itself."""

    type: Literal["generation.completed"] = "generation.completed"
    finish_reason: str = "stop"


class GenerationStopped(_Event):
    """Somebody stopped it. `by` is "user", "revoke", "replace", "producer", "fork" or "erase"."""

    type: Literal["generation.stopped"] = "generation.stopped"
    by: str
    reason: str | None = None


class GenerationFailed(_Event):
    """It ended with an error; `retryable` tells whether asking again may help."""

    type: Literal["generation.failed"] = "generation.failed"
    code: str
    message: str
    retryable: bool = False


class UnknownEvent(_Event):
    """An event of a type that this version does not know; readers pass it on."""

    generation_id: str = Field("", validation_alias="generation", serialization_alias="generation")


Known = (
    MessageEvent
    | GenerationQueued
    | GenerationStarted
    | TextDelta
    | ReasoningDelta
    | ToolCallEvent
    | ToolResultEvent
    | DataEvent
    | UsageEvent
    | GenerationCompleted
    | GenerationStopped
    | GenerationFailed
)
Event = Known | UnknownEvent
Ending = GenerationCompleted | GenerationStopped | GenerationFailed

_KNOWN: Final[TypeAdapter[Known]] = TypeAdapter(Annotated[Known, Field(discriminator="type")])
KNOWN_TYPES: Final = frozenset(model.model_fields["type"].default for model in get_args(Known))


class Entry:
    """An event as it stands in the log: its seq, when it was written (Unix ms, Redis's clock), and the stored bytes.

    A value, though not a frozen dataclass, which would take three times as long to make: do not assign to it. The
    readers of a chat share its entries. `store.entries` checks an entry when it is read; the event of a delta is
    decoded when it is first asked for, so that passing `raw` on costs no decoding.
    """

    __slots__ = ("_event", "at", "generation_id", "log", "raw", "seq", "type")

    def __init__(
        self,
        seq: int,
        at: int,
        event: Event | None,
        raw: bytes,
        of_type: str = "",
        generation_id: str = "",
        log: str = "",
    ) -> None:
        """Make an entry. Without `event`, `raw` is known to be sound, of `of_type` and of `generation_id`.

        `log` is the identity of the log that holds it.
        """
        self.seq = seq
        self.at = at
        self.raw = raw
        self.log = log
        self.type = of_type if event is None else event.type
        self.generation_id = generation_id if event is None else event.generation_id
        self._event = event

    @property
    def cursor(self) -> str:
        """What to pass as `after` to continue behind this entry. Unlike the bare seq, it notices another log."""
        return f"{self.seq}.{self.log}-{self.at:x}"

    @property
    def event(self) -> Event:
        """The event."""
        if self._event is None:
            self._event = decode(self.raw, self.seq)
        return self._event

    def __eq__(self, other: object) -> bool:
        """Tell whether both stand at the same place and say the same."""
        if not isinstance(other, Entry):
            return NotImplemented
        return (self.seq, self.at, self.raw) == (other.seq, other.at, other.raw) and self.event == other.event

    def __hash__(self) -> int:
        """Hash what is compared."""
        return hash((self.seq, self.at, self.raw))

    def __repr__(self) -> str:
        """Show all fields."""
        return f"Entry(seq={self.seq}, at={self.at}, event={self.event!r}, raw={self.raw!r})"


def encode(event: Event) -> bytes:
    """Return the bytes that are stored for `event`: compact JSON in UTF-8.

    It is JSON that every parser takes: see `to_valid_json`.
    """
    try:
        return event.model_dump_json().encode()
    except PydanticSerializationError:
        return to_valid_json(event.model_dump(mode="python"))


def decode(raw: bytes, seq: int) -> Event:
    """Return the event that `raw` holds. Raises `CorruptLog(seq)` for what no chunkspool ever wrote."""
    try:
        fields = from_json(raw, allow_inf_nan=False)
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            raise CorruptLog(seq, "it is not a JSON object with a type")
        if fields["type"] in KNOWN_TYPES:
            return _KNOWN.validate_python(fields, by_alias=True, by_name=False)
        return UnknownEvent.model_validate(fields, by_alias=True, by_name=False)
    except ValidationError as error:
        raise CorruptLog(seq, f"its fields are wrong: {error.errors()[0]['msg']}") from None
    except ValueError as error:
        raise CorruptLog(seq, f"it is not JSON: {error}") from None
