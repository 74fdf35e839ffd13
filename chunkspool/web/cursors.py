"""Read the cursor of a request: a malformed one is refused, so that nothing is replayed by accident."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Header, Query
from pydantic import WithJsonSchema

from chunkspool.errors import InvalidCursor
from chunkspool.reading.cursor import MAX_SEQ, checked_cursor

_SCHEMA = WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_SEQ})
_WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)

# Text for FastAPI, which would answer 422 for what is no number.
After = Annotated[str | None, _SCHEMA, Query(description="the seq of the last event you have; 0 for all of them")]
LastEventId = Annotated[
    str | None, _SCHEMA, Header(alias="Last-Event-ID", description="what an EventSource sends; wins over `after`")
]


def cursor_of(after: str | None, last_event_id: str | None) -> int:
    """Return the cursor. Raises `InvalidCursor` for anything but a whole number from 0 up."""
    text = after if last_event_id is None else last_event_id
    if text is None:
        return 0
    if not _WHOLE.fullmatch(text):
        raise InvalidCursor(text)
    return checked_cursor(int(text))
