"""What a generation is asked: checked whole before anything is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from chunkspool.errors import CorruptLog, InvalidRequest, RequestTooLarge
from chunkspool.provider import ModelRequest

MAX_REASON = 500
"""Characters of a stop's reason: it is an event that every reader gets."""
MAX_TTL = 31_536_000


class Message(BaseModel):
    """One message in the chat-completions shape; further fields (name, tool_calls, …) go to the model as they are."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, JsonValue]] | None = None


class GenerationRequest(BaseModel):
    """The request as it is kept in the generation's hash."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    messages: list[Message] = Field(min_length=1)
    model: str | None = Field(None, min_length=1, max_length=200)
    params: dict[str, JsonValue] = Field(default_factory=dict)

    @classmethod
    def checked(
        cls,
        *,
        prompt: str | None,
        messages: Sequence[Mapping[str, Any]] | None,
        model: str | None,
        params: Mapping[str, Any] | None,
    ) -> Self:
        """Make a request of what `enqueue` was given. Raises `InvalidRequest`."""
        if (prompt is None) == (messages is None):
            raise InvalidRequest("pass either prompt= (one user message) or messages= (the whole conversation)")
        if messages is None:
            messages = [{"role": "user", "content": _checked_prompt(prompt)}]
        if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
            raise InvalidRequest(f"messages must be a list of {{role, content}}, not {type(messages).__name__}")
        fields = {"messages": list(messages), "model": model, "params": {} if params is None else params}
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise InvalidRequest("; ".join(_explain(e["loc"], e["msg"]) for e in error.errors()[:5])) from None

    @classmethod
    def stored(cls, raw: bytes) -> Self:
        """Return the request that `encoded` gave. Raises `CorruptLog`."""
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            raise CorruptLog(None, f"the stored request is not one of ours: {error.errors()[0]['msg']}") from None

    def encoded(self, limit: int) -> bytes:
        """Return the bytes to store. Raises `RequestTooLarge` when they are more than `limit`."""
        try:
            raw = self.model_dump_json(exclude_unset=True).encode()
        except ValueError as error:
            raise InvalidRequest(f"the request is not text that UTF-8 can hold: {error}") from None
        if len(raw) > limit:
            raise RequestTooLarge(len(raw), limit)
        return raw

    def for_model(self) -> ModelRequest:
        """Return it as providers get it."""
        messages = tuple(message.model_dump(exclude_unset=True) for message in self.messages)
        return ModelRequest(messages, self.model, self.params)


def checked_ttl(ttl: object) -> float:
    """Return the seconds that a chat is kept. Raises `InvalidRequest`."""
    if isinstance(ttl, int | float) and not isinstance(ttl, bool) and 1 <= ttl <= MAX_TTL:
        return ttl
    raise InvalidRequest(f"ttl={ttl!r}: pass seconds, from 1 to {MAX_TTL} (a year)")


def checked_on_active(on_active: object) -> None:
    """Raise `InvalidRequest` for what `enqueue` cannot do when the chat is busy."""
    if on_active not in ("reject", "replace", "allow"):
        raise InvalidRequest(f'on_active={on_active!r}: pass "reject", "replace" or "allow"')


def checked_reason(reason: object) -> str | None:
    """Return the reason of a stop. Raises `InvalidRequest`."""
    if reason is None or (isinstance(reason, str) and len(reason) <= MAX_REASON):
        return reason
    raise InvalidRequest(f"reason must be a text of at most {MAX_REASON} characters")


def _checked_prompt(prompt: object) -> str:
    if not isinstance(prompt, str):
        raise InvalidRequest(f"prompt must be a text, not {type(prompt).__name__}")
    if not prompt.strip():
        raise InvalidRequest("prompt is empty")
    return prompt


def _explain(loc: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, loc)) or 'request'}: {message}"
