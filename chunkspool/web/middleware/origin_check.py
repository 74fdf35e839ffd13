"""Refuse what a page of another origin asks to change, unless its origin is configured."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkspool.settings import variable_of
from chunkspool.web.middleware.body_check import SAFE_METHODS
from chunkspool.web.problems import problem_of, response_to


class OriginCheck:
    """ASGI middleware: 403 for such a request.

    CORS keeps a foreign page from reading the answer, but not from sending a simple POST, with which it could stop or
    start a generation where cookies or the network are the permission. Clients that are no browsers send neither
    header.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        """`origins` are configured for CORS; "*" means all."""
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS and self._is_foreign(Headers(scope=scope)):
            error = HTTPException(403, f"a page of another origin may not do this: see {variable_of('cors_origins')}")
            await response_to(problem_of(error))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_foreign(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if "*" in self._origins or origin in self._origins:
            return False
        # The browser sets it, no page can. It is right also where a proxy has changed the host.
        site = headers.get("sec-fetch-site")
        if site is not None:
            return site not in {"same-origin", "none"}
        return origin is not None and _host_of(origin) != headers.get("host", "").lower()


def _host_of(origin: str) -> str | None:
    """Return the host and port of an origin; None for one that has none, such as "null"."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
