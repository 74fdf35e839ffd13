"""The ASGI servers that people run, as commands for the app of abused_server.py."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from support.servers.tls import Certificate

from chunkspool.demo.ports import LOOPBACK

APP = "support.web.abused_server:bare"


@dataclass(frozen=True, slots=True)
class AsgiServer:
    """A server, and what it does. docs/how-to/run/deploy.md says what to do where something is False."""

    command: Callable[[int], list[str]]
    with_tls: Callable[[Certificate], list[str]] | None = None
    """The further words for HTTP/2 over TLS; None: it has none, or needs another package for it."""
    streams_bodies: bool = True
    """It runs the app when a request's headers are there, and not only after its body."""
    holds_back: bool = True
    """Over HTTP/1.1 `send` waits for a client that reads slowly."""
    holds_back_http2: bool = True
    """The same over HTTP/2."""


def _hypercorn(port: int) -> list[str]:
    # By default it waits three seconds for open responses when it is to exit.
    return [sys.executable, "-m", "hypercorn", APP, "--bind", f"{LOOPBACK}:{port}"]


def _daphne(port: int) -> list[str]:
    return [sys.executable, "-m", "daphne", "--bind", LOOPBACK, "--port", str(port), APP]


def _granian(port: int) -> list[str]:
    # Without a limit it waits for open responses as long as they are open.
    ending = ("--workers-kill-timeout", "3")
    return [
        sys.executable,
        "-m",
        "granian",
        "--interface",
        "asgi",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        *ending,
        APP,
    ]


SERVERS = {
    "hypercorn": AsgiServer(
        _hypercorn,
        lambda own: ["--certfile", str(own.certfile), "--keyfile", str(own.keyfile)],
        holds_back_http2=False,
    ),
    "granian": AsgiServer(
        _granian,
        lambda own: ["--http", "2", "--ssl-certificate", str(own.certfile), "--ssl-keyfile", str(own.keyfile)],
    ),
    "daphne": AsgiServer(_daphne, streams_bodies=False, holds_back=False),
}
