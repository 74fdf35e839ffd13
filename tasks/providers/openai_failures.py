"""Says what an error of the OpenAI SDK means, and how long the provider asks to wait."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2
import openai

from chunkspool.errors import ProviderError
from tasks.providers.failures import Code, code_of, failure, shown

# The second: the SDK does not translate what happens while it reads the body of a refusal.
CALL_ERRORS = (openai.OpenAIError, httpx2.RequestError)
"""What a call that has not begun to answer can raise."""
READ_ERRORS = (httpx2.RequestError, OSError)
"""What reading an answer can raise."""


def of_call(error: Exception) -> tuple[ProviderError, float]:
    """Return what one of `CALL_ERRORS` means, and the seconds after which the provider wants to be asked again."""
    if isinstance(error, openai.APIStatusError):
        return _refusal(error)
    timeout = error.__cause__ if isinstance(error, openai.APITimeoutError) else error
    if isinstance(timeout, httpx2.TimeoutException) and not isinstance(timeout, httpx2.ConnectTimeout):
        return failure(Code.PROVIDER_TIMEOUT), 0.0
    return failure(Code.PROVIDER_UNREACHABLE), 0.0


def of_read(error: Exception) -> ProviderError:
    """Return what one of `READ_ERRORS` means."""
    return failure(Code.PROVIDER_TIMEOUT if isinstance(error, httpx2.TimeoutException) else Code.TRUNCATED)


def seconds_to_wait(headers: Mapping[str, str], now: float) -> float:
    """Return what Retry-After asks for, as of the Unix time `now`; 0 when it does not ask."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        seconds = _date(given) - now
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _date(given: str) -> float:
    try:
        return parsedate_to_datetime(given).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _refusal(error: openai.APIStatusError) -> tuple[ProviderError, float]:
    code = code_of(error.status_code, (error.code, error.type))
    after = seconds_to_wait(error.response.headers, time.time())
    details = [f"HTTP {error.status_code}"]
    if code is Code.INVALID_REQUEST:
        details += shown(error.code, error.param)
    if after >= 1:
        details.append(f"try again in {math.ceil(after)} seconds")
    return failure(code, *details), after
