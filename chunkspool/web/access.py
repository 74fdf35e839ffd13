"""Authorization: the hook that every chat route asks before it does anything."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, Protocol

from starlette.requests import Request
from starlette.types import Scope

Action = Literal["ask", "read", "stop", "erase"]


class AccessDenied(Exception):
    """Raised by a hook that cannot identify the caller (401): no token, or a forged or expired one."""


@dataclass(frozen=True, slots=True)
class GrantedUntil:
    """The sender may, until `expires` (Unix seconds): an event stream that is still open then ends with a 401."""

    expires: float


Verdict = bool | GrantedUntil


class Authorize(Protocol):
    """Decides whether the sender of `request` may do `action` in a chat: False becomes a 403. It may be async.

    Return True or, if the permission ends some day, `GrantedUntil`.

    "ask" starts a generation, "read" follows the chat, "stop" stops a generation, "erase" removes the chat. Raise
    `AccessDenied` for an unknown caller (401), or Starlette's `HTTPException` for another status.
    """

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> Verdict | Awaitable[Verdict]:
        """Decide."""
        ...


def allow_all(request: Request, tenant: str, chat_id: str, action: Action) -> bool:  # noqa: ARG001 - a hook's signature
    """Allow everything to everybody: for a demo, or behind an access check of your own."""
    return True


_EXPIRES = "chunkspool.access_expires"


def note_expiry(scope: Scope, expires: float) -> None:
    """Keep with a request until when (Unix seconds) its sender may do what it asks for."""
    scope[_EXPIRES] = expires


def expiry_of(scope: Scope) -> float | None:
    """Return until when the request's sender may; None if without a limit."""
    expires: float | None = scope.get(_EXPIRES)
    return expires
