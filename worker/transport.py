"""kombu's Redis transport, without the error that ends a worker when its broker restarts."""

from __future__ import annotations

from typing import Any

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombus
from redis.exceptions import ConnectionError as Unreachable


class Channel(kombus.Channel):
    """A channel whose connection may have been collected before the channel notices."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's signature
        # kombu 5.7 reads the host's name off a connection that a restart of Redis has already taken away. The
        # AttributeError is none of the errors after which Celery connects anew: the worker's main process dies.
        if self.connection is None or self.connection.client is None:
            raise Unreachable("the broker's connection was lost")
        params: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[no-untyped-call]
        return params


class Transport(kombus.Transport):
    """The transport of redis:// and rediss:// URLs."""

    Channel = Channel


def install() -> None:
    """Make kombu take it for its own, in this process.

    Named by Celery's `broker_transport` instead, it would stand in the broker's URL, which Flower then cannot read.
    """
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
