"""The permission of an open stream: when it ends, and whether it still holds when the hook is asked again."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.types import Scope

from chunkspool.web.access import AccessDenied, Grant

ANSWER_SECONDS = 10.0
"""How long a hook may take when it is asked again."""
FAR = 366 * 86_400.0
"""Seconds that no stream lives: no timer for an end beyond (event loops do not take every number)."""


class StreamPermit:
    """One per stream whose request was granted."""

    __slots__ = ("_asking", "_every", "_grant", "_next", "_path_params", "_refuse", "_scope", "_timer")

    def __init__(self, grant: Grant, path_params: Mapping[str, object], every: float) -> None:
        """Nothing is asked yet. `every` is in seconds; `path_params` are those of the route that was asked for."""
        self._grant = grant
        self._path_params = path_params
        self._every = every

    @property
    def owner(self) -> str | None:
        """Whose stream it is; None where nobody knows."""
        return self._grant.until.owner

    def start(self, scope: Scope, refuse: Callable[[Exception], None]) -> None:
        """Ask from now on for the request of `scope`; `refuse` is called with what ends the permission."""
        self._scope = scope
        self._refuse = refuse
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Not all at once: after a deploy, all streams of a server have begun in one moment.
        self._next = time.monotonic() + self._every * (1000 + secrets.randbelow(1000)) / 2000
        self._expire_at(self._grant.until.expires)

    def ask_if_due(self, now: float) -> None:
        """Ask again if it is time to (monotonic clock), behind the caller's back."""
        if now >= self._next and self._asking is None:
            self._next = now + self._every
            self._asking = asyncio.create_task(self._ask(), name="chunkspool-reauthorize")

    def end(self) -> None:
        """Ask no more."""
        self._next = math.inf
        if self._asking is not None:
            self._asking.cancel()
        if self._timer is not None:
            self._timer.cancel()

    async def _ask(self) -> None:
        request = Request({**self._scope, "path_params": self._path_params})
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._expire_at((await self._grant.check.ask(request)).expires)
        except Exception as error:  # noqa: BLE001 - whatever a hook raises is no permission
            self._refuse(error)
        finally:
            self._asking = None

    def _expire_at(self, expires: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        left = expires - time.time()
        self._timer = asyncio.get_running_loop().call_later(left, self._expire) if left < FAR else None

    def _expire(self) -> None:
        self._refuse(AccessDenied("the access has expired: resume with a new token"))
