"""Who may do what: the hook that every route of a chat asks before it does anything."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, Protocol

from starlette.requests import Request

Action = Literal["ask", "read", "stop", "erase"]


class AccessDenied(Exception):
    """Raised by a hook that does not know who asks (401): no token, a forged or an expired one."""


class Authorize(Protocol):
    """Tells whether the sender of `request` may do `action` in a chat: False is a 403. It may be async.

    "ask" starts a generation, "read" follows a chat, "stop" and "erase" do as they say. Raise `AccessDenied` for a
    stranger (401), or Starlette's `HTTPException` for a status of your own.
    """

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> bool | Awaitable[bool]:
        """Decide."""
        ...


def allow_all(request: Request, tenant: str, chat_id: str, action: Action) -> bool:  # noqa: ARG001 - a hook's signature
    """Let everybody do everything: for a demo, or behind a gate of your own."""
    return True
