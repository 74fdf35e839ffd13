"""`chunkspool serve`: the web app under uvicorn, in a process of its own."""

from __future__ import annotations

import asyncio

import uvicorn

from chunkspool import AsyncSpool, Settings
from chunkspool.errors import SettingsError
from chunkspool.settings import variable_of
from chunkspool.web.access import Authorize, allow_all
from chunkspool.web.app import create_app
from chunkspool.web.tokens import SignedTokens

GRACE_SECONDS = 10
"""How long a shutdown waits for what does not end by itself. Event streams do."""


def serve(settings: Settings, host: str, port: int, *, open_access: bool) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` without a token secret, unless `open_access` is asked for.

    A port that is taken ends the process with exit code 1.
    """
    authorize = _authorize(settings, open_access=open_access)
    asyncio.run(_serve(settings, host, port, authorize))


async def _serve(settings: Settings, host: str, port: int, authorize: Authorize) -> None:
    app = create_app(AsyncSpool.from_settings(settings), authorize, page=True, closes_spool=True)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="none",
        # Addresses may hold tokens: an EventSource cannot send them otherwise.
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    await uvicorn.Server(config).serve()


def _authorize(settings: Settings, *, open_access: bool) -> Authorize:
    if open_access:
        return allow_all
    if settings.web.token_secret is None:
        raise SettingsError(
            f"set {variable_of('token_secret')} to serve only those who have a token, or use --open to let everybody "
            "read, ask, stop and erase"
        )
    return SignedTokens.from_settings(settings)
