"""What routes take from a request: the app's context, a chat's id, the spool if the sender may use it, a cursor."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Query, Request
from pydantic import WithJsonSchema

from chunkspool import AsyncSpool
from chunkspool.errors import InvalidCursor
from chunkspool.ids import ID_PATTERN, MAX_ID_LENGTH
from chunkspool.store.pages import MAX_SEQ, checked_cursor
from chunkspool.web.access import Action
from chunkspool.web.context import WebContext
from chunkspool.web.problems import ProblemDocument

ChatId = Annotated[str, Path(pattern=f"^{ID_PATTERN}$", max_length=MAX_ID_LENGTH, description="the chat's id")]

_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_SEQ})
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)
# Text for FastAPI, which would answer 422 for what is no number.
After = Annotated[str | None, _SCHEMA, Query(description="the seq of the last event you have; 0 for all events")]
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


def cursor_of(after: str | None, last_event_id: str | None) -> int:
    """Return the cursor. Raises `InvalidCursor` for anything but a whole number of 0 or more.

    A malformed cursor is refused, so that nothing is replayed by accident.
    """
    text = after if last_event_id is None else last_event_id
    if text is None:
        return 0
    if not _WHOLE.fullmatch(text):
        raise InvalidCursor(text)
    return checked_cursor(int(text))


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may answer besides its success, for the OpenAPI document."""
    return {status: {"model": ProblemDocument} for status in statuses}


ANYWHERE = (400, 401, 403, 413, 422, 502, 503)
"""The problems that every route of a chat may have."""
