"""Translates the errors of the OpenAI SDK, and reads how long the provider asks to wait."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2
import openai

from chunkspool.errors import ProviderError
from tasks.providers.failures import Code, code_of, failure, safe_names

# The SDK does not translate what happens while it reads the body of an error response: hence the second class.
CALL_ERRORS = (openai.OpenAIError, httpx2.RequestError)
"""What a call can raise before the server has begun to answer."""
READ_ERRORS = (httpx2.RequestError, OSError)
"""What reading the answer can raise."""


def translate_call_error(error: Exception) -> tuple[ProviderError, float]:
    """Return what one of `CALL_ERRORS` means, and how many seconds the provider asks to wait (0: it does not say)."""
    if isinstance(error, openai.APIStatusError):
        return _translate_response(error)
    # A provider that is reached but silent may be working on the request: asking again could mean paying twice. So
    # its code is not that of a failed connection.
    timeout = error.__cause__ if isinstance(error, openai.APITimeoutError) else error
    if isinstance(timeout, httpx2.TimeoutException) and not isinstance(timeout, httpx2.ConnectTimeout):
        return failure(Code.PROVIDER_TIMEOUT), 0.0
    return failure(Code.PROVIDER_UNREACHABLE), 0.0


def translate_read_error(error: Exception) -> ProviderError:
    """Return what one of `READ_ERRORS` means."""
    return failure(Code.PROVIDER_TIMEOUT if isinstance(error, httpx2.TimeoutException) else Code.TRUNCATED)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float:
    """Return the seconds that Retry-After asks to wait at the Unix time `now`; 0 without a readable one."""
    given = headers.get("retry-after", "")
    try:
        seconds = float(given)
    except ValueError:
        seconds = _parse_date(given) - now
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def _parse_date(given: str) -> float:
    try:
        return parsedate_to_datetime(given).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def _translate_response(error: openai.APIStatusError) -> tuple[ProviderError, float]:
    code = code_of(error.status_code, (error.code, error.type))
    retry_after = parse_retry_after(error.response.headers, time.time())
    details = [f"HTTP {error.status_code}"]
    if code is Code.INVALID_REQUEST:
        details += safe_names(error.code, error.param)
    if retry_after >= 1:
        details.append(f"try again in {math.ceil(retry_after)} seconds")
    return failure(code, *details), retry_after
