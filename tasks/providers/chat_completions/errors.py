"""Finds the failures that servers send as part of an answer, after they have answered with status 200."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from chunkspool.errors import ProviderError
from chunkspool.tasks.providers.failures import code_of, failure, safe_names
from chunkspool.tasks.providers.json_values import object_in

_STATUS = re.compile(r"[45]\d\d")
_STATUS_FIELDS = ("code", "status", "status_code", "type")
_SIGNS = ("detail", "details", "message", "error_message", "errors")
"""What an object that is no chunk says if it reports a failure."""


def find_error(
    chunk: Mapping[str, Any], choices: Iterable[Mapping[str, Any]], name: bytes = b""
) -> ProviderError | None:
    """Return the failure that a chunk or one of its choices reports, if any; `name` is the event's.

    Servers have many ways to say it.
    """
    for holder in (chunk, *choices):
        if holder.get("error"):
            return error_of(holder["error"], holder)
    if name == b"error" or chunk.get("object") == "error" or chunk.get("type") == "error":
        return error_of(chunk)
    is_sign = not isinstance(chunk.get("choices"), list) and (
        _status_in(chunk) or any(chunk.get(sign) for sign in _SIGNS)
    )
    return error_of(chunk) if is_sign else None


def error_of(error: object, holder: Mapping[str, Any] | None = None) -> ProviderError:
    """Return what an error means; `holder` is the object it is part of."""
    fields = {**object_in(holder), **object_in(error)}
    status = _status_in(fields)
    names = [fields.get(name) for name in ("code", "type")]
    details = [f"HTTP {status}"] if status else []
    # That it is an "error" is said already.
    return failure(code_of(status, names), *details, *safe_names(*(name for name in names if name != "error")))


def _status_in(fields: Mapping[str, Any]) -> int | None:
    given = (str(fields.get(name)) for name in _STATUS_FIELDS)
    return next((int(one) for one in given if _STATUS.fullmatch(one)), None)
