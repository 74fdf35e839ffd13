"""What a generation is asked: checked whole before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import from_json, to_json

from chunkspool.errors import CorruptLog, InvalidInput, InvalidRequest, RequestTooLarge, shown
from chunkspool.faults import faults_of
from chunkspool.provider import ModelRequest
from chunkspool.states import ON_ACTIVE, PRIORITIES

MAX_REASON = 500
"""Characters of a stop's reason: it is an event that every reader gets."""
MAX_TTL = 31_536_000
_SHOWN_NAMES = 6
_SHOWN_NAME = 60


class Message(BaseModel):
    """One message in the chat-completions shape; further fields (name, tool_calls, …) go to the model as they are.

    `id` is the client's own, and `ui` how an AI SDK client shows it: both are for the log, not for the model.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, JsonValue]

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, JsonValue]] | None = None
    id: str | None = Field(None, min_length=1, max_length=1000)
    # Not in the schema of the JSON routes, which refuse it.
    ui: SkipJsonSchema[dict[str, JsonValue] | None] = None

    @property
    def is_only_shown(self) -> bool:
        """Whether it says nothing to a model: it is in the log for what a client shows."""
        return self.role == "assistant" and self.content is None and self.ui is not None and not self.model_extra

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        text = self.content.strip() if isinstance(self.content, str) else self.content
        if self.role == "user" and not text:
            raise ValueError("a user's message has no content")
        return self


_NOT_FOR_MODELS: Final = {"messages": {"__all__": {"id", "ui"}}}


class GenerationRequest(BaseModel):
    """The request as it is kept in the generation's hash.

    With `history`, the model gets what the log has of the conversation in front of the messages.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    messages: list[Message]
    model: str | None = Field(None, min_length=1, max_length=200)
    params: dict[str, JsonValue] = Field(default_factory=dict)
    history: bool = False

    @classmethod
    def checked(
        cls,
        *,
        prompt: str | None,
        messages: Sequence[Mapping[str, Any] | Message] | None,
        model: str | None,
        params: Mapping[str, Any] | None,
        history: bool = False,
        replaces: str | None = None,
    ) -> Self:
        """Make a request of what `enqueue` was given. Raises `InvalidRequest`.

        Without a prompt and messages, it is what the generation `replaces` was asked: `messages` is empty then. With a
        prompt, `messages` may be those of the app, which it follows.
        """
        is_again = prompt is None and not messages and replaces is not None
        if is_again:
            messages = []
        elif not _are_of_the_app(messages) if prompt is not None else messages is None:
            raise InvalidRequest("pass either prompt= (one user message) or messages= (the whole conversation)")
        elif prompt is not None or messages is None:
            messages = [*(messages or ()), {"role": "user", "content": _checked_prompt(prompt)}]
        if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
            raise InvalidRequest(f"messages must be a list of {{role, content}}, not {type(messages).__name__}")
        if not messages and replaces is None:
            raise InvalidRequest("messages is empty: pass the whole conversation")
        fields: dict[str, Any] = {"messages": list(messages), "model": model}
        fields["params"] = {} if params is None else params
        if history or is_again:
            # Only then: without it, the request has the same bytes as one of an older version.
            fields["history"] = history or is_again
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest(explain(error)) from None

    def encode(self, limit: int) -> bytes:
        """Return the bytes to store. Raises `RequestTooLarge`, or `InvalidRequest` when they are no JSON."""
        for_models = self.model_copy(update={"messages": [one for one in self.messages if not one.is_only_shown]})
        try:
            raw = for_models.model_dump_json(exclude_unset=True, exclude=_NOT_FOR_MODELS).encode()
        except ValueError as error:
            raise InvalidRequest(f"the request is not text that UTF-8 can hold: {error}") from None
        return _checked_json(raw, limit)


def encode_transcript(transcript: object, limit: int) -> bytes:
    """Return the bytes to store, none for None. Raises `RequestTooLarge`, or `InvalidRequest` when they are no JSON."""
    if transcript is None:
        return b""
    try:
        raw = to_json(transcript, inf_nan_mode="null")
    except ValueError as error:
        raise InvalidRequest(f"the transcript is not JSON: {error}") from None
    return _checked_json(raw, limit)


def stored_transcript(raw: bytes) -> JsonValue:
    """Return what `encode_transcript` gave. Raises `CorruptLog`."""
    try:
        transcript: JsonValue = from_json(raw)
    except ValueError:
        raise CorruptLog(None, "the stored transcript is not one that chunkspool wrote") from None
    return transcript


def _checked_json(raw: bytes, limit: int) -> bytes:
    if len(raw) > limit:
        raise RequestTooLarge(len(raw), limit)
    check_json(raw)
    return raw


def check_json(raw: bytes) -> None:
    """Raise `InvalidRequest` for what can be written as JSON, but not read: better now than later."""
    try:
        from_json(raw)
    except ValueError as error:
        raise InvalidRequest(f"the request is nested too deep, or has too large a number: {error}") from None


def stored_request(raw: bytes, prefix: str = "") -> ModelRequest:
    """Return what `encode` gave as providers get it, to be continued from `prefix`. Raises `CorruptLog`.

    It was checked when it was enqueued, so only its shape is looked at.
    """
    try:
        fields = from_json(raw)
        messages, model, params = fields["messages"], fields.get("model"), fields.get("params", {})
        has_some = bool(messages) or fields.get("history") is True
    except (ValueError, TypeError, KeyError, AttributeError):
        messages, model, params, has_some = [], None, {}, False
    are_messages = isinstance(messages, list) and has_some and all(map(_is_message, messages))
    if not are_messages or not isinstance(model, str | None) or not isinstance(params, dict):
        raise CorruptLog(None, "the stored request is not one that chunkspool wrote")
    return ModelRequest(tuple(messages), model, params, prefix)


def wants_history(raw: bytes) -> bool:
    """Tell whether the model is to get the conversation in front of a stored request's messages."""
    # A request may be large, and is parsed anyway: twice only where it may say so.
    return b'"history":true' in raw and from_json(raw).get("history") is True


@dataclass(frozen=True, slots=True)
class Claim:
    """A generation that was claimed for one more attempt.

    `restarts`: readers were told that this attempt continues the earlier one's text, but it cannot. `room`: bytes that
    the log may still grow by; None without a limit. `age`: seconds since it was queued. `speaks_first`: no attempt
    before this one has said anything.
    """

    attempt: int
    request: ModelRequest
    restarts: bool = False
    request_id: str | None = None
    room: int | None = None
    age: float = 0.0
    speaks_first: bool = True


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str)


def checked_ttl(ttl: object) -> float:
    """Return the seconds that a chat is kept. Raises `InvalidRequest`."""
    if isinstance(ttl, int | float) and not isinstance(ttl, bool) and 1 <= ttl <= MAX_TTL:
        return ttl
    raise InvalidRequest(f"ttl={shown(ttl)}: pass seconds, from 1 to {MAX_TTL} (a year)")


def checked_expires(expires: object) -> float:
    """Return the seconds for which a generation may wait, 0 for as long as it takes. Raises `InvalidRequest`."""
    if expires is None:
        return 0
    if isinstance(expires, int | float) and not isinstance(expires, bool) and 0 < expires <= MAX_TTL:
        return expires
    raise InvalidRequest(f"expires={shown(expires)}: pass seconds, more than 0 and at most {MAX_TTL} (a year)")


def checked_on_active(on_active: object) -> None:
    """Raise `InvalidRequest` for what `enqueue` cannot do when the chat is busy."""
    if on_active not in ON_ACTIVE:
        raise InvalidRequest(f'on_active={shown(on_active)}: pass "reject", "replace", "allow" or "queue"')


def checked_priority(priority: object) -> None:
    """Raise `InvalidRequest` for a priority that there is not."""
    if priority not in PRIORITIES:
        raise InvalidRequest(f'priority={shown(priority)}: pass "interactive" or "batch"')


def checked_wait(wait: object) -> float:
    """Return the seconds to wait for another attempt. Raises `InvalidInput`."""
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait >= 0:
        return wait
    raise InvalidInput(f"wait={shown(wait)}: pass seconds, from 0 up")


def checked_reason(reason: object) -> str | None:
    """Return the reason of a stop. Raises `InvalidRequest`."""
    if reason is None or (isinstance(reason, str) and len(reason) <= MAX_REASON):
        return reason
    raise InvalidRequest(f"reason must be a text of at most {MAX_REASON} characters")


def _are_of_the_app(messages: object) -> bool:
    """Tell whether there are none, or only such as a prompt follows."""
    if messages is None:
        return True
    if not isinstance(messages, list | tuple) or not messages:
        return False
    roles = [one.get("role") if isinstance(one, Mapping) else getattr(one, "role", None) for one in messages]
    return all(role in ("system", "developer") for role in roles)


def _checked_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise InvalidRequest(f"prompt must be a text, not {type(prompt).__name__}")
    if not prompt.strip():
        raise InvalidRequest("prompt is empty")
    return prompt


def explain(error: ValidationError) -> str:
    """Return what is wrong and where: the first few faults, without the input, which may be large or a secret."""
    return "; ".join(_explain_fault(place, message) for place, message in faults_of(error.errors())[:3])


def _explain_fault(place: tuple[int | str, ...], message: str) -> str:
    # What is nested too deep is so at every level.
    names = [_shorten(str(part)) for part in place]
    where = ".".join(names[:_SHOWN_NAMES]) + (".…" if len(names) > _SHOWN_NAMES else "")
    return f"{where or 'request'}: {message}"


def _shorten(name: str) -> str:
    """Return a name as it is, or cut: it may be a key of whoever sent it."""
    return name if len(name) <= _SHOWN_NAME else f"{name[: _SHOWN_NAME - 1]}…"
