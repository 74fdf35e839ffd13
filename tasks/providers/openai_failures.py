"""Says what an error of the OpenAI SDK means: for people, for programs, and for whether to ask again."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx2
import openai

from chunkspool.errors import ProviderError

_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_NO_QUOTA = "insufficient_quota"
_REFUSED_KEY = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_NAME = re.compile(r"[A-Za-z][\w.\[\]-]{0,59}")


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong before the first chunk."""

    error: ProviderError
    again: bool
    """Whether the same request may be sent once more."""
    after: float = 0.0
    """Seconds that the provider asks to wait before that."""


def failure_of(error: openai.OpenAIError) -> Failure:
    """Return what `error`, raised before the first chunk, means."""
    if isinstance(error, openai.APIStatusError):
        return _refusal(error)
    if isinstance(error, openai.APITimeoutError) and not isinstance(error.__cause__, httpx2.ConnectTimeout):
        # Not sent again: the provider may still be at work on it, and would then be paid twice.
        return Failure(silent(), again=False)
    message = "The model's provider cannot be reached."
    return Failure(ProviderError("provider_unreachable", message, retryable=True), again=True)


def silent() -> ProviderError:
    """Return the error of a provider that has said nothing for too long."""
    return ProviderError("provider_timeout", "The model's provider was silent for too long.", retryable=True)


def cut() -> ProviderError:
    """Return the error of a connection that was lost in mid-answer."""
    message = "The answer broke off: the connection to the model's provider was lost."
    return ProviderError("truncated", message, retryable=True)


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float:
    """Return what Retry-After asks for, as of the Unix time `now`; 0 when it does not ask."""
    given = headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _refusal(error: openai.APIStatusError) -> Failure:
    status = error.status_code
    after = seconds_to_wait(error.response.headers, time.time())
    if _NO_QUOTA in {error.code, error.type}:
        return _final("quota_exhausted", "The account at the model's provider has used up its quota.")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        when = f"in {after:.0f} seconds" if after >= 1 else "in a moment"
        message = f"The model's provider is busy. Try again {when}."
        return Failure(ProviderError("rate_limited", message, retryable=True), again=True, after=after)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message = f"The model's provider does not work at the moment (HTTP {status})."
        return Failure(ProviderError("provider_unavailable", message, retryable=True), again=True, after=after)
    return _rejection(error, status)


def _rejection(error: openai.APIStatusError, status: int) -> Failure:
    if not _TOO_LONG.isdisjoint({error.code, error.type}):
        return _final("context_length_exceeded", "The conversation is longer than the model can take.")
    if status in _REFUSED_KEY:
        return _final("authentication", f"The model's provider refuses our key (HTTP {status}).")
    if status == HTTPStatus.NOT_FOUND:
        message = "The model's provider does not have the model that was asked for (HTTP 404)."
        return _final("model_not_found", message)
    # The server's own words are left out: they may quote the prompt or the key. What it names is safe.
    names = [name for name in (error.code, error.param) if isinstance(name, str) and _NAME.fullmatch(name)]
    return _final(
        "invalid_request", f"The model's provider refused the request ({', '.join([f'HTTP {status}', *names])})."
    )


def _final(code: str, message: str) -> Failure:
    return Failure(ProviderError(code, message, retryable=False), again=False)
