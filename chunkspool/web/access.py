"""Authorization: the hook that every chat route asks before it does anything."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from chunkspool.ids import checked_id

Action = Literal["ask", "read", "stop", "erase", "list"]
"""What somebody wants to do in a chat, or, "list", to see which chats there are. None of them implies another."""
ANY_CHAT: Final = "*"
"""Stands for every chat of a tenant; no chat has this id."""


class AccessDenied(Exception):
    """Raised by a hook that cannot identify the caller (401): no token, or a forged or expired one."""


@dataclass(frozen=True, slots=True)
class GrantedUntil:
    """The sender may, until `expires` (Unix seconds): an event stream that is still open then ends with a 401.

    `owner` says who they are, for the limits of an owner: what they follow, and what they ask for unless `admit=` names
    another owner; and whose chats they may list. `lists_all`: those of the whole tenant instead. Raises `InvalidId` for
    an owner that is no id.
    """

    expires: float = math.inf
    owner: str | None = None
    lists_all: bool = False

    def __post_init__(self) -> None:
        """Check the owner."""
        if self.owner is not None:
            checked_id("owner", self.owner)


Verdict = bool | GrantedUntil
"""Whether they may: no, yes, or yes until a moment at which an open stream ends."""


class Authorize(Protocol):
    """Decides whether the sender of `request` may do `action` in a chat: False becomes a 403. It may be async.

    Return True or, if the permission ends some day or you know whose it is, `GrantedUntil`.

    "ask" starts a generation or sets a title, "read" follows the chat, "stop" stops a generation, "erase" removes the
    chat. None of them implies another: a route that does two things asks twice, as a fork does ("read" in the one
    chat, "ask" in the other). "list" is asked for the chat "*": return `GrantedUntil(owner=…)`, and the chats of that
    owner are listed; True alone lists nothing.

    Raise `AccessDenied` for an unknown caller (401), or Starlette's `HTTPException` for another status.

    It is asked again while an event stream is open (`CHUNKSPOOL_REAUTHORIZE`), with the same request, but without a
    body: let it decide, and not count.
    """

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> Verdict | Awaitable[Verdict]:
        """Decide."""
        ...


def allow_all(request: Request, tenant: str, chat_id: str, action: Action) -> Verdict:  # noqa: ARG001 - a hook's signature
    """Allow everything to everybody: for a demo, or behind an access check of your own.

    That check has to cover `GET /v1/chats`, too, which lists the ids and titles of all the tenant's chats.
    """
    return GrantedUntil(lists_all=True)


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """What a hook is asked about a request."""

    authorize: Authorize
    tenant: str
    chat_id: str
    action: Action

    async def ask(self, request: Request) -> GrantedUntil:
        """Return until when (`math.inf` without a limit) the sender may, and who they are.

        Raises `AccessDenied`, an HTTP 403, or what the hook raises.
        """
        verdict = self.authorize(request, self.tenant, self.chat_id, self.action)
        granted = await verdict if inspect.isawaitable(verdict) else verdict
        if not granted:
            what = "list chats" if self.action == "list" else f"{self.action} in chat {self.chat_id!r}"
            raise HTTPException(403, f"not allowed: {what}")
        until = granted if isinstance(granted, GrantedUntil) else GrantedUntil()
        if not until.expires > time.time():  # in this way NaN grants nothing
            raise AccessDenied("the access has expired")
        return until


@dataclass(frozen=True, slots=True)
class Grant:
    """A check that was passed, and until when that holds."""

    check: AccessCheck
    until: GrantedUntil


_GRANT = "chunkspool.grant"
_ASKER = "chunkspool.asker"


def note_grant(scope: Scope, grant: Grant) -> None:
    """Keep with a request what its sender may do. Of several grants the last is kept."""
    scope[_GRANT] = grant


def grant_of(scope: Scope) -> Grant | None:
    """Return the grant that was noted last; None if nobody was asked."""
    grant: Grant | None = scope.get(_GRANT)
    return grant


def note_asker(scope: Scope, owner: str | None) -> None:
    """Keep with a request who may ask: the owner of what is asked for."""
    scope[_ASKER] = owner


def asker_of(scope: Scope) -> str | None:
    """Return the owner that was noted last; None where nobody knows."""
    owner: str | None = scope.get(_ASKER)
    return owner
