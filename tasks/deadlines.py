"""The three clocks of an attempt: its whole length, the wait for its first token, and the silence after one.

Celery's own time limits do not hold on threads.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from chunkspool.errors import ProviderError
from chunkspool.settings import Settings


class Deadlines:
    """Cancels what its `async with` block waits for when a clock has run out, and says which.

    A delta costs one assignment: the timer is not set anew for each, it looks when it goes off.
    """

    def __init__(self, settings: Settings) -> None:
        """Take `deadline`, `first_token_timeout` and `idle_timeout`, in seconds, from the settings."""
        self._settings = settings
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._out_of_time: ProviderError | None = None
        self._heard = 0.0
        self._first = True

    def heard(self) -> None:
        """Note that the model has said something."""
        self._heard = self._loop.time()
        if self._first:
            # From here on another clock counts, which may run out before the timer goes off.
            self._first = False
            self._look()

    async def __aenter__(self) -> Self:
        """Start the clocks."""
        self._loop = asyncio.get_running_loop()
        self._began = self._heard = self._loop.time()
        await self._limit.__aenter__()
        self._look()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the clocks. Raises `ProviderError` when one has run out."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._out_of_time is None:
                raise
            raise self._out_of_time from None

    def _look(self) -> None:
        """End the block if a clock has run out, else come again when the next one may have."""
        due, error = self._next()
        if self._loop.time() >= due:
            self._out_of_time = error
            self._limit.reschedule(due)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._look)

    def _next(self) -> tuple[float, ProviderError]:
        """Return when the first clock runs out, on the loop's clock, and what that means."""
        whole, first, idle = (
            self._settings.worker.deadline,
            self._settings.worker.first_token_timeout,
            self._settings.worker.idle_timeout,
        )
        silence = first if self._first else idle
        ends, falls_silent = self._began + whole, self._heard + silence
        if ends <= falls_silent:
            return ends, _error("deadline", f"The answer was not complete after {whole:g} seconds.")
        if self._first:
            return falls_silent, _error("first_token_timeout", f"The model said nothing for {first:g} seconds.")
        return falls_silent, _error("idle_timeout", f"The model fell silent for {idle:g} seconds in mid-answer.")


def _error(code: str, message: str) -> ProviderError:
    return ProviderError(code, message, retryable=True)
