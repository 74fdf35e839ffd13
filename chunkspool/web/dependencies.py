"""What routes take from a request: the app's context, a chat's id, the spool if the sender may use it, a cursor."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import WithJsonSchema

from chunkspool import AsyncSpool
from chunkspool.ids import ID_PATTERN, MAX_ID_LENGTH
from chunkspool.store.positions import checked_position
from chunkspool.web.access import Action
from chunkspool.web.context import WebContext
from chunkspool.web.problems import ProblemDocument

ChatId = Annotated[str, Path(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH, description="the chat's id")]

_SCHEMA = WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,15}(\.[0-9a-f]{0,12}-[0-9a-f]{1,12})?$"})
# Text for FastAPI, which would answer 422 for what is none.
After = Annotated[
    str | None, _SCHEMA, Query(description="the seq or the `id:` of the last event you have; 0 for all events")
]
LastEventId = Annotated[
    str | None, _SCHEMA, Header(alias="Last-Event-ID", description="what an EventSource sends; wins over `after`")
]


def context_of(request: Request) -> WebContext:
    """Return the context of the app that handles `request`."""
    context: WebContext = request.app.state.context
    return context


Context = Annotated[WebContext, Depends(context_of)]


def may(action: Action) -> Any:
    """Return the dependency that gives a route the spool, if the sender may do `action` in the path's chat."""

    async def admit(request: Request, chat_id: ChatId) -> AsyncSpool:
        return await context_of(request).admit(request, chat_id, action)

    return Depends(admit)


def cursor_of(after: str | None, last_event_id: str | None) -> str:
    """Return the cursor. Raises `InvalidCursor` for anything but a seq or the `id:` of an event.

    A malformed cursor is refused, so that nothing is replayed by accident.
    """
    text = after if last_event_id is None else last_event_id
    return str(checked_position("0" if text is None else text))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may answer besides its success, for the OpenAPI document."""
    return {status: {"model": ProblemDocument} for status in statuses}


ANYWHERE = (400, 401, 403, 413, 422, 502, 503)
"""The problems that every route of a chat may have."""
