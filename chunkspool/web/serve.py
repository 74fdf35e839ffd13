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
"""How long a shutdown waits for requests that are still being answered. Event streams end by themselves."""


def serve(settings: Settings, host: str, port: int, *, open_access: bool) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` if there is no token secret and no `open_access`.

    If the port is in use, the process exits with code 1.
    """
    authorize = _choose_authorize(settings, open_access=open_access)
    asyncio.run(_run_server(settings, host, port, authorize))


async def _run_server(settings: Settings, host: str, port: int, authorize: Authorize) -> None:
    app = create_app(AsyncSpool.from_settings(settings), authorize, page=True, closes_spool=True)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        ws="none",
        # URLs may contain tokens, because an EventSource cannot send them in a header.
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    await uvicorn.Server(config).serve()


def _choose_authorize(settings: Settings, *, open_access: bool) -> Authorize:
    if open_access:
        return allow_all
    if settings.web.token_secret is None:
        raise SettingsError(
            f"set {variable_of('token_secret')} to require a token, or pass --open to let everybody read, ask, stop "
            "and erase"
        )
    return SignedTokens.from_settings(settings)
