"""Problem documents (RFC 9457): what the web routes answer where they cannot do as they were asked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from chunkspool.errors import (
    ChatBusy,
    ChatContended,
    ChatNotFound,
    ChunkspoolError,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    EnqueueFailed,
    GenerationNotFound,
    InvalidCursor,
    InvalidInput,
    RequestTooLarge,
    ServerShuttingDown,
    SettingsError,
    SpoolClosed,
    StoreBusy,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from chunkspool.web.access import AccessDenied

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger(__name__)


class ProblemDocument(BaseModel):
    """A problem document. `type` is `urn:chunkspool:problem:…`; further fields depend on it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """What goes wrong. `more` are the document's further fields; `retry_after` is in seconds."""

    status: int
    kind: str
    title: str
    detail: str
    more: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """Return the document."""
        kind = f"urn:chunkspool:problem:{self.kind}"
        return {"type": kind, "title": self.title, "status": self.status, "detail": self.detail, **self.more}

    def response(self) -> Response:
        """Return the response."""
        headers = {"cache-control": "no-store", **self.headers}
        return Response(to_json(self.document()), self.status, headers, MEDIA_TYPE)


def problem_of(error: Exception) -> Problem:
    """Return what a client is told of an error. What strangers should not learn of the inside goes to the log."""
    # The error's own class goes before its parents: the order of the table does not matter.
    explain = next(filter(None, map(_EXPLANATIONS.get, type(error).__mro__)), _bug)
    return explain(error)


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem document."""
    for kind in (ChunkspoolError, AccessDenied, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    return problem_of(error).response()


def _unavailable(seconds: int, kind: str, title: str, detail: str) -> Callable[[Any], Problem]:
    def explain(error: Exception) -> Problem:
        _LOG.warning("%s: %s", title, error)
        return Problem(503, kind, title, detail, headers={"retry-after": str(seconds)})

    return explain


def _bug(error: Exception) -> Problem:
    _LOG.error("a request failed", exc_info=error)
    return Problem(500, "internal", "Internal error", "Internal error; see the server log.")


def _denied(error: AccessDenied) -> Problem:
    return Problem(401, "unauthorized", "Not authorized", str(error), headers={"www-authenticate": "Bearer"})


def _expired(error: CursorExpired) -> Problem:
    more = {"requested": error.requested, "first": error.first, "last": error.last}
    return Problem(410, "cursor-expired", "Cursor expired", str(error), more)


def _ahead(error: CursorAhead) -> Problem:
    more = {"requested": error.requested, "last": error.last}
    return Problem(400, "cursor-ahead", "Cursor ahead of the chat", str(error), more)


def _busy(error: ChatBusy) -> Problem:
    return Problem(409, "chat-busy", "Chat busy", str(error), {"active": list(error.active)})


def _too_large(error: RequestTooLarge) -> Problem:
    return Problem(413, "too-large", "Too large", str(error), {"limit": error.limit})


def _corrupt(error: CorruptLog) -> Problem:
    _LOG.error("a log is corrupt: %s", error)
    return Problem(502, "corrupt-log", "Corrupt log", str(error), {"seq": error.seq})


def _not_validated(error: RequestValidationError) -> Problem:
    # The input itself is not repeated: it may be large, and it may be a secret in the wrong place.
    errors = [([_short(at) for at in one["loc"]], _short(one["msg"], 300)) for one in error.errors()[:10]]
    detail = "; ".join(f"{'.'.join(str(step) for step in at)}: {message}" for at, message in errors[:3])
    more = [{"at": at, "message": message} for at, message in errors]
    return Problem(422, "invalid", "Invalid request", detail, {"errors": more})


def _of_http(error: HTTPException) -> Problem:
    status = error.status_code
    known = {one.value: one.phrase for one in HTTPStatus} | {413: "Too large"}
    title = known.get(status, "Error")
    kind = title.lower().replace(" ", "-")
    return Problem(status, kind, title, str(error.detail), headers=dict(error.headers or {}))


def _simple(status: int, kind: str, title: str) -> Callable[[Any], Problem]:
    return lambda error: Problem(status, kind, title, str(error))


_EXPLANATIONS: Mapping[type[Exception], Callable[[Any], Problem]] = {
    AccessDenied: _denied,
    ChatNotFound: _simple(404, "chat-not-found", "Chat not found"),
    GenerationNotFound: _simple(404, "generation-not-found", "Generation not found"),
    CursorExpired: _expired,
    CursorAhead: _ahead,
    InvalidCursor: _simple(400, "invalid-cursor", "Invalid cursor"),
    RequestTooLarge: _too_large,
    ChatBusy: _busy,
    ChatContended: _simple(409, "chat-contended", "Chat contended"),
    EnqueueFailed: _unavailable(
        5, "broker-away", "Broker unreachable", "The broker cannot be reached; nothing was started."
    ),
    StoreUnavailable: _unavailable(2, "store-away", "Redis unreachable", "Redis cannot be reached; try again."),
    StoreBusy: _unavailable(2, "store-busy", "Redis busy", "Too many requests wait for Redis; try again."),
    StoreFull: _unavailable(10, "store-full", "Redis full", "Redis is out of memory; nothing was written."),
    StoreRefused: _unavailable(30, "store-refuses", "Redis refused", "Redis rejected this server; see the server log."),
    ServerShuttingDown: _unavailable(1, "shutting-down", "Shutting down", "The server is shutting down; try again."),
    SpoolClosed: _unavailable(1, "shutting-down", "Shutting down", "The server is shutting down; try again."),
    CorruptLog: _corrupt,
    SettingsError: _unavailable(
        30, "not-configured", "Not configured", "This server is not set up for that; see its log."
    ),
    InvalidInput: _simple(422, "invalid", "Invalid request"),
    RequestValidationError: _not_validated,
    HTTPException: _of_http,
}
"""What each error is told as; the others are bugs. Those of a worker (`Interrupted` and the like) reach no route."""


def _short(value: object, longest: int = 60) -> object:
    if isinstance(value, int):
        return value
    text = str(value).encode("utf-8", "replace").decode()
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
