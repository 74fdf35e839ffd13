"""Problem documents (RFC 9457): what a web client is told of an error, in any framework."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from chunkspool.errors import (
    BrokerRefused,
    ChatBusy,
    ChatContended,
    ChatExists,
    ChatNotFound,
    CorruptLog,
    CursorAhead,
    CursorExpired,
    DigestUnfinished,
    EnqueueFailed,
    GenerationNotFound,
    InvalidCursor,
    InvalidInput,
    LimitExceeded,
    Refused,
    RequestIdReused,
    RequestTooLarge,
    ServerShuttingDown,
    SettingsError,
    SpoolClosed,
    StoreBusy,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)

MEDIA_TYPE = "application/problem+json"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as a client sees it. `more` are further fields of the document."""

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


Explain = Callable[[Any], Problem]
"""Returns what a client may know of an error."""


def problem_of(error: Exception, more: Mapping[type[Exception], Explain] = MappingProxyType({})) -> Problem:
    """Return what a client may know of an error. Internal details (addresses, for example) only go to the log.

    `more` explains what a framework raises. Whatever nobody explains is a bug: a 500, and its traceback in the log.
    """
    # The error's own class is looked up before its parents, so the order of the tables does not matter.
    explained = (more.get(kind) or _EXPLANATIONS.get(kind) for kind in type(error).__mro__)
    explain = next(filter(None, explained), _explain_bug)
    return explain(error)


def _explain_unavailable(seconds: int, kind: str, title: str, detail: str) -> Explain:
    def explain(error: Exception) -> Problem:
        _LOG.warning("%s: %s", title, error)
        return Problem(503, kind, title, detail, headers={"retry-after": str(seconds)})

    return explain


def _explain_bug(error: Exception) -> Problem:
    _LOG.error("a request failed", exc_info=error)
    return Problem(500, "internal", "Internal error", "Internal error; see the server log.")


def _explain_expired(error: CursorExpired) -> Problem:
    more = {"requested": error.requested, "first": error.first, "last": error.last}
    return Problem(410, "cursor-expired", "Cursor expired", str(error), more)


def _explain_ahead(error: CursorAhead) -> Problem:
    more = {"requested": error.requested, "last": error.last}
    return Problem(400, "cursor-ahead", "Cursor ahead of the chat", str(error), more)


def _explain_unfinished(error: DigestUnfinished) -> Problem:
    more = {"seq": error.seq, "last": error.last}
    return Problem(503, "still-reading", "Chat still being read", str(error), more, headers={"retry-after": "1"})


def _explain_busy(error: ChatBusy) -> Problem:
    return Problem(409, "chat-busy", "Chat busy", str(error), {"active": list(error.active), "count": error.count})


def _explain_limit(error: LimitExceeded) -> Problem:
    headers = {} if error.retry_after is None else {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    return Problem(429, "limit-exceeded", "Limit exceeded", str(error), {"limit": error.limit}, headers)


def _explain_too_large(error: RequestTooLarge) -> Problem:
    return Problem(413, "too-large", "Too large", str(error), {"limit": error.limit})


def _explain_reused(error: RequestIdReused) -> Problem:
    return Problem(422, "request-id-reused", "Request id reused", str(error), {"generation": error.generation_id})


def _explain_corrupt(error: CorruptLog) -> Problem:
    _LOG.error("a chat's log is corrupt: %s", error)
    return Problem(502, "corrupt-log", "Corrupt log", str(error), {"seq": error.seq})


def _explain_as(status: int, kind: str, title: str) -> Explain:
    return lambda error: Problem(status, kind, title, str(error))


_EXPLANATIONS: Mapping[type[Exception], Explain] = {
    ChatNotFound: _explain_as(404, "chat-not-found", "Chat not found"),
    GenerationNotFound: _explain_as(404, "generation-not-found", "Generation not found"),
    CursorExpired: _explain_expired,
    CursorAhead: _explain_ahead,
    InvalidCursor: _explain_as(400, "invalid-cursor", "Invalid cursor"),
    RequestIdReused: _explain_reused,
    RequestTooLarge: _explain_too_large,
    ChatBusy: _explain_busy,
    ChatExists: _explain_as(409, "chat-exists", "Chat exists"),
    LimitExceeded: _explain_limit,
    ChatContended: _explain_as(409, "chat-contended", "Chat changing too fast"),
    DigestUnfinished: _explain_unfinished,
    EnqueueFailed: _explain_unavailable(
        5, "broker-away", "Broker unreachable", "The broker cannot be reached; nothing was started."
    ),
    BrokerRefused: _explain_unavailable(
        30, "broker-refuses", "Broker refused", "The broker rejected this server and nothing was started; see its log."
    ),
    StoreUnavailable: _explain_unavailable(2, "store-away", "Redis unreachable", "Redis cannot be reached; try again."),
    StoreBusy: _explain_unavailable(2, "store-busy", "Redis busy", "Too many requests wait for Redis; try again."),
    StoreFull: _explain_unavailable(10, "store-full", "Redis full", "Redis is out of memory; nothing was written."),
    StoreRefused: _explain_unavailable(
        30, "store-refuses", "Redis refused", "Redis rejected this server; see the server log."
    ),
    ServerShuttingDown: _explain_unavailable(
        1, "shutting-down", "Shutting down", "The server is shutting down; try again."
    ),
    SpoolClosed: _explain_unavailable(1, "shutting-down", "Shutting down", "The server is shutting down; try again."),
    CorruptLog: _explain_corrupt,
    SettingsError: _explain_unavailable(
        30, "not-configured", "Not configured", "This server is not configured for that; see the server log."
    ),
    Refused: _explain_as(422, "refused", "Not allowed"),
    InvalidInput: _explain_as(422, "invalid", "Invalid request"),
}
"""How each error is explained; all others are bugs. A worker's errors (such as `Interrupted`) never reach a route."""
