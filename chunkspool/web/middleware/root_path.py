"""Set ASGI's root path, for a framework that does not tell an app where it is mounted."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware, the outermost. It also removes the slash that Litestar appends to every path."""

    def __init__(self, app: ASGIApp, at: str) -> None:
        """`at` is the path in front of the routes."""
        self._app = app
        self._at = at.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            path = self._at + scope["path"].rstrip("/")
            scope = {**scope, "root_path": self._at, "path": path}
        await self._app(scope, receive, send)
