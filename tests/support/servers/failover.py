"""A primary and its replica behind one address, and the ways in which the replica takes over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer, run_second_server
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK

NOWHERE = 1
"""A port on which nobody listens."""


class Pair:
    """Two servers and a proxy, whose address stays the same. Old connections stay with the old primary."""

    def __init__(self, old: Redis, new: Redis, proxy: Proxy) -> None:
        """`old` is the primary, `new` its replica; both are clients past the proxy."""
        self.old = old
        self.new = new
        self.proxy = proxy

    @property
    def url(self) -> str:
        """The one address."""
        return self.proxy.url

    def fail_over(self, *, lag: float = 0.0, isolated: bool = False) -> None:
        """Make the replica the primary, with nothing lost, and let the address lead to it `lag` seconds later.

        `isolated`: the old primary becomes a replica that never hears of the new one, so what it holds is stale.
        """
        self.old.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
        try:
            eventually(lambda: offset(self.new, "slave_repl_offset") >= offset(self.old, "master_repl_offset"))
            self.new.replicaof("NO", "ONE")
            self.old.replicaof(LOOPBACK, NOWHERE if isolated else port_of(self.new))
        finally:
            self.old.execute_command("CLIENT", "UNPAUSE")
        if lag:
            time.sleep(lag)
        self.proxy.lead_to(port_of(self.new))

    @contextmanager
    def fail_over_behind(self, *, lag: float) -> Iterator[list[float]]:
        """Do it in a thread while the block runs; give a list that will hold the moment at which the address led on."""
        switched: list[float] = []

        def run() -> None:
            self.fail_over(lag=lag)
            switched.append(time.monotonic())

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield switched
        finally:
            thread.join()


@contextmanager
def pair_of(server: PrivateServer, folder: Path) -> Iterator[Pair]:
    """Run two servers of the same kind as `server`, replicating, behind one address."""
    with ExitStack() as stack:
        old, new = (stack.enter_context(run_second_server(server, folder / name)) for name in ("old", "new"))
        clients = [stack.enter_context(one.client()) for one in (old, new)]
        for client in clients:
            client.config_set("repl-diskless-sync-delay", 0)
        clients[1].replicaof(LOOPBACK, old.port)
        eventually(lambda: clients[1].info("replication")["master_link_status"] == "up", 30)
        proxy = stack.enter_context(Proxy(old.port))
        yield Pair(*clients, proxy)


def offset(client: Redis, which: str) -> int:
    """Return how far a server is in the stream of replication."""
    return int(client.info("replication")[which])


def port_of(client: Redis) -> int:
    """Return the port of the client's server."""
    return int(client.connection_pool.connection_kwargs["port"])
