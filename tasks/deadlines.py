"""The clocks of an attempt: its whole length, silence before the first token and after it, and mere keep-alives.

Celery's own time limits do not work on threads; these work on every pool.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from chunkspool.errors import ProviderError
from chunkspool.settings import Settings


class Deadlines:
    """Cancels the `async with` block when a clock has run out, and raises an error that names the clock.

    A fast model sends hundreds of deltas a second, so a delta must be cheap: it only notes the time. The timer is not
    moved; when it fires, it checks whether a clock has really run out, and else sets itself for the next one.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the clocks' lengths from the settings."""
        self._settings = settings
        self._limit = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None
        self._expired: ProviderError | None = None
        self._last_sign = 0.0
        self._last_progress = 0.0
        self._awaits_first = True

    def note_sign_of_life(self, *, progress: bool) -> None:
        """Restart the clock of silence: the server has sent something. `progress`: it was part of the answer."""
        if progress:
            self.note_delta()
        else:
            self._last_sign = self._loop.time()

    def note_delta(self) -> None:
        """Restart the clocks of silence and of keep-alives: the model has sent a part of the answer."""
        self._last_sign = self._last_progress = self._loop.time()
        if self._awaits_first:
            # From now on the idle time-out counts. It may be shorter than the first token's, so it may be due before
            # the timer fires.
            self._awaits_first = False
            self._check()

    async def __aenter__(self) -> Self:
        """Start the clocks."""
        self._loop = asyncio.get_running_loop()
        self._started = self._last_sign = self._last_progress = self._loop.time()
        await self._limit.__aenter__()
        self._check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the clocks. Raises `ProviderError` when one has run out."""
        if self._timer is not None:
            self._timer.cancel()
        # asyncio.timeout tells its own cancellation from one from outside, such as a stop. It raises TimeoutError for
        # its own; any other TimeoutError comes from the block and is not ours to translate.
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError:
            if self._expired is None:
                raise
            raise self._expired from None

    def _check(self) -> None:
        """End the block if a clock has run out, else check again when the next one may have."""
        due, error = self._next_to_expire()
        if self._loop.time() >= due:
            self._expired = error
            self._limit.reschedule(due)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._check)

    def _next_to_expire(self) -> tuple[float, ProviderError]:
        """Return when the next clock runs out, in the loop's time, and the error that this means."""
        worker = self._settings.worker
        silence = worker.first_token_timeout if self._awaits_first else worker.idle_timeout
        ends = self._started + worker.deadline
        falls_silent = self._last_sign + silence
        # Never shorter than the silence that is allowed anyway.
        stall = max(worker.keepalive_timeout, silence)
        stalls = self._last_progress + stall
        if ends <= min(falls_silent, stalls):
            return ends, _error("deadline", f"The answer was not complete after {worker.deadline:g} seconds.")
        if stalls < falls_silent:
            return stalls, _error("keepalive_timeout", f"The model sent nothing but keep-alives for {stall:g} seconds.")
        if self._awaits_first:
            return falls_silent, _error("first_token_timeout", f"The model sent nothing for {silence:g} seconds.")
        return falls_silent, _error("idle_timeout", f"The model was silent for {silence:g} seconds in mid-answer.")


def _error(code: str, message: str) -> ProviderError:
    return ProviderError(code, message, retryable=True)
