"""What routes take from a request: the app's context, the chat's id, the cursor, and the spool if access is granted."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import WithJsonSchema

from chunkspool import AsyncSpool
from chunkspool.ids import ID_PATTERN, MAX_ID_LENGTH
from chunkspool.operations.query import MAX_LIMIT
from chunkspool.store.positions import checked_position
from chunkspool.web.access import Action
from chunkspool.web.context import WebContext
from chunkspool.web.problems import ProblemDocument

ChatId = Annotated[str, Path(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH, description="the chat's id")]

# A str, because FastAPI would answer 422 to a malformed cursor, and the routes promise 400 for every bad one.
_CURSOR_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9a-f]{0,12}-[0-9a-f]{1,12})?$"})
After = Annotated[
    str | None, _CURSOR_SCHEMA, Query(description="the seq or the `id:` of the last event you have; 0 for all events")
]
Before = Annotated[
    str | None, _CURSOR_SCHEMA, Query(description="a snapshot's `before`: only answers that began before that seq")
]
Limit = Annotated[int | None, Query(ge=1, le=MAX_LIMIT, description="how many of the newest; all unless given")]
LastEventId = Annotated[
    str | None,
    _CURSOR_SCHEMA,
    Header(alias="Last-Event-ID", description="what an EventSource sends; wins over `after`"),
]


def context_of(request: Request) -> WebContext:
    """Return the context of the app that handles `request`."""
    context: WebContext = request.app.state.context
    return context


Context = Annotated[WebContext, Depends(context_of)]


def require(action: Action) -> Any:
    """Return the dependency that gives a route the spool, if the sender may do `action` in the path's chat."""

    async def spool_for(request: Request, chat_id: ChatId) -> AsyncSpool:
        return await context_of(request).spool_for(request, chat_id, action)

    return Depends(spool_for)


def cursor_of(after: str | None, last_event_id: str | None) -> str:
    """Return the cursor. Raises `InvalidCursor` for anything but a seq or the `id:` of an event.

    A malformed cursor is an error, not a 0: otherwise a client's bug would replay the whole chat.
    """
    text = after if last_event_id is None else last_event_id
    return str(checked_position("0" if text is None else text))


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems that a route may answer with, for the OpenAPI document."""
    return {status: {"model": ProblemDocument} for status in statuses}


COMMON_PROBLEMS = (400, 401, 403, 408, 413, 415, 422, 502, 503)
"""Statuses that every route of a chat may answer with."""
