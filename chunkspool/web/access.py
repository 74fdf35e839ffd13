"""Authorization: the hook that every chat route asks before it does anything."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Literal, Protocol

from starlette.requests import Request

Action = Literal["ask", "read", "stop", "erase"]


class AccessDenied(Exception):
    """Raised by a hook that cannot identify the caller (401): no token, or a forged or expired one."""


class Authorize(Protocol):
    """Decides whether the sender of `request` may do `action` in a chat: False becomes a 403. It may be async.

    "ask" starts a generation, "read" follows the chat, "stop" stops a generation, "erase" removes the chat. Raise
    `AccessDenied` for an unknown caller (401), or Starlette's `HTTPException` for another status.
    """

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> bool | Awaitable[bool]:
        """Decide."""
        ...


def allow_all(request: Request, tenant: str, chat_id: str, action: Action) -> bool:  # noqa: ARG001 - a hook's signature
    """Allow everything to everybody: for a demo, or behind an access check of your own."""
    return True
