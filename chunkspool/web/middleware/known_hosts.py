"""Refuse requests for a host name that is not this server's: what a browser sends under DNS rebinding."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from chunkspool.settings import variable_of
from chunkspool.web.problems import problem_of, response_to

MISDIRECTED = 421


class KnownHosts:
    """ASGI middleware: 421 for an unknown `Host`.

    A page can have its own name resolve to an address of this machine or network; to the browser, this server is then
    of the page's own origin. An address in place of a name cannot be rebound, and localhost is never asked for.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        """`names` are known besides localhost and all addresses."""
        self._app = app
        self._names = frozenset(name.strip().lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and not self._is_known(Headers(scope=scope).getlist("host")):
            error = HTTPException(
                MISDIRECTED, f"this server does not know that host: see {variable_of('allowed_hosts')}"
            )
            await response_to(problem_of(error))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_known(self, hosts: list[str]) -> bool:
        # A request without one is no browser's.
        return len(hosts) <= 1 and all(self._is_known_name(_name_of(host)) for host in hosts)

    def _is_known_name(self, name: str) -> bool:
        return name in self._names or name == "localhost" or name.endswith(".localhost") or _is_address(name)


def _name_of(host: str) -> str:
    """Return a `Host` header's value without the port, and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
