"""The hook that sees each generation that a web user asks for, and returns it as it shall be."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

from pydantic import JsonValue
from starlette.requests import Request

from chunkspool.request import GenerationRequest, Message
from chunkspool.states import OnActive, Priority


class Refused(Exception):
    """Raised by a hook for what the user may not ask for (422). Its text is shown to the user."""


@dataclass(frozen=True, slots=True)
class AskedGeneration:
    """A generation as a web user asks for it, or as a hook lets it pass. The fields are those of `AsyncSpool.enqueue`.

    `owner`, `ttl`, `priority` and `expires` are never the user's; a hook may set them.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    params: Mapping[str, JsonValue] = field(default_factory=dict)
    on_active: OnActive = "reject"
    request_id: str | None = None
    owner: str | None = None
    ttl: float | None = None
    priority: Priority = "interactive"
    expires: float | None = None

    @classmethod
    def of(cls, request: GenerationRequest, *, on_active: OnActive, request_id: str | None) -> Self:
        """Return what a checked request asks for."""
        return cls(tuple(request.messages), request.model, request.params, on_active, request_id)

    def with_system(self, text: str) -> Self:
        """Return a copy that begins with this system message."""
        system = Message.model_validate({"role": "system", "content": text})
        return replace(self, messages=(system, *self.messages))


class Admit(Protocol):
    """Decides what a worker is asked when a user asks for `asked`. It may be async.

    Return `asked`, or another one made of it: what is returned is enqueued as it is. Raise `Refused` with a text for
    the user (422), or Starlette's `HTTPException` for another status. It is asked after `authorize` has allowed "ask".

    For the same `asked` return the same value: a request that is repeated with its id must be the same request.
    """

    def __call__(
        self, request: Request, tenant: str, chat_id: str, asked: AskedGeneration
    ) -> AskedGeneration | Awaitable[AskedGeneration]:
        """Decide."""
        ...


def admit_all(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:  # noqa: ARG001 - a hook's signature
    """Let everything pass to the provider: for users who may do whatever the app may."""
    return asked
