"""Calls a model's provider, and calls it again as long as that may help."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import TypeVar

from chunkspool.errors import ContinuationRefused
from chunkspool.tasks.providers.failures import ASKED_AGAIN, Code
from chunkspool.tasks.providers.retry_report import report_retry
from chunkspool.tasks.providers.sdk_failures import call_errors, translate_call_error

T = TypeVar("T")

FIRST_PAUSE = 0.5
"""Seconds between the first two calls, give or take a quarter; each further pause is twice as long."""
MAX_PAUSE = 30.0
"""Longest pause, in seconds. A provider that asks for more fails the call: the wait would hold a slot of the worker."""
_random = SystemRandom()


async def call_with_retries(
    call: Callable[[], Awaitable[T]], retries: int, sdk: type[Exception], *, has_prefix: bool = False
) -> T:
    """Return what `call` returns, calling it again up to `retries` times. Raises `ProviderError`.

    `sdk` is the base of the errors of the SDK that calls. If the request `has_prefix`, that may be why it is rejected:
    then `ContinuationRefused` is raised. Servers have no code for it. A 400 or 422 may have another cause, but then the
    request without the prefix, which comes next, fails in the same way.
    """
    failures = 0
    while True:
        try:
            return await call()
        except call_errors(sdk) as error:
            failure, retry_after = translate_call_error(error)
        # Raised outside the except block, so that the SDK's error is not its context: that one quotes the server, which
        # may quote the prompt, and a traceback would print it.
        if failure.code not in ASKED_AGAIN or retry_after > MAX_PAUSE or failures >= retries:
            if has_prefix and failure.code == Code.INVALID_REQUEST:
                raise ContinuationRefused(failure.code, failure.message, retryable=failure.retryable)
            raise failure
        report_retry()
        await asyncio.sleep(max(retry_after, _pause_after(failures)))
        failures += 1


def _pause_after(failures: int) -> float:
    # Random, so that generations which failed together do not all come back together.
    return min(FIRST_PAUSE * 2.0**failures, MAX_PAUSE / 2) * _random.uniform(0.75, 1.25)
