"""`chunkspool serve`: the web app under uvicorn, in a process of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import sys

import uvicorn
from starlette.types import ASGIApp

from chunkspool import AsyncSpool, Settings
from chunkspool.errors import SettingsError
from chunkspool.observer import Observer
from chunkspool.settings import variable_of
from chunkspool.web.access import Authorize, allow_all
from chunkspool.web.app import create_app
from chunkspool.web.idle_connections import IdleConnections
from chunkspool.web.middleware.known_hosts import KnownHosts
from chunkspool.web.tokens import SignedTokens

GRACE_SECONDS = 10
"""How long a shutdown waits for requests that are still being answered. Event streams end by themselves."""
KEEP_ALIVE_SECONDS = 5
"""How long a connection may be silent between two requests."""
MAX_HEADER_BYTES = 64 * 1024


def serve(settings: Settings, host: str, port: int, *, open_access: bool) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` if there is no token secret and no `open_access`.

    If the port is in use, the process exits with code 1.
    """
    authorize = _choose_authorize(settings, open_access=open_access)
    if open_access and not _is_loopback(host):
        sys.stderr.write(_WARNING.format(host=host, secret=variable_of("token_secret")))
    asyncio.run(_run_server(settings, host, port, authorize))


async def _run_server(settings: Settings, host: str, port: int, authorize: Authorize) -> None:
    web = settings.web
    spool = AsyncSpool.from_settings(settings, observer=_choose_observer(settings))
    app: ASGIApp = create_app(spool, authorize, page=True, closes_spool=True)
    if authorize is allow_all:
        app = KnownHosts(app, [host, *web.allowed_hosts.split(",")])
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        # httptools parses all requests that are sent behind one another, before the first is answered, tells only the
        # last of them that the client has gone, and has no limit for headers.
        http="h11",
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        limit_concurrency=web.max_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        ws="none",
        # URLs may contain tokens, because an EventSource cannot send them in a header.
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    idle = IdleConnections(server, request_timeout=web.request_timeout, stall_timeout=web.stall_timeout)
    closing = asyncio.create_task(idle.close_for_ever(), name="chunkspool-idle-connections")
    try:
        await server.serve()
    finally:
        closing.cancel()


_WARNING = """\
**********************************************************************
WARNING: --open on {host}: everybody who can reach this address may
read, ask, stop and erase every chat, and each question costs you money.
Set {secret} and leave --open out, or listen on 127.0.0.1.
**********************************************************************
"""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _choose_observer(settings: Settings) -> Observer | None:
    if settings.metrics.metrics_token is None:
        return None
    from chunkspool.metrics.instruments import PrometheusObserver  # noqa: PLC0415 - loaded only where there are metrics

    return PrometheusObserver.with_own_registry()


def _choose_authorize(settings: Settings, *, open_access: bool) -> Authorize:
    if open_access:
        return allow_all
    if settings.web.token_secret is None:
        raise SettingsError(
            f"set {variable_of('token_secret')} to require a token, or pass --open to let everybody read, ask, stop "
            "and erase"
        )
    return SignedTokens.from_settings(settings)
