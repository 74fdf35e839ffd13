"""A proxy between a client and a Redis server: loses replies, cuts or refuses connections, or leads elsewhere."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import hiredis

from chunkspool.demo.ports import LOOPBACK, free_port

_BUFFER = 65_536
_POLL_SECONDS = 0.02
_INCOMPLETE = object()


class Proxy:
    """A TCP proxy in front of the server on `target_port`. Use it as a context manager."""

    def __init__(self, target_port: int) -> None:
        """Choose a port; nothing listens before `accept`."""
        self.port = free_port()
        self._target_port = target_port
        self._lock = threading.Lock()
        self._to_swallow: list[bytes] = []
        self._swallowed = 0
        self._connections: set[_ProxiedConnection] = set()
        self._listener: _Listener | None = None

    @property
    def url(self) -> str:
        """The server's URL through this proxy."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def swallowed(self) -> int:
        """How many replies were lost so far."""
        with self._lock:
            return self._swallowed

    def swallow_next_reply(self, matching: bytes) -> None:
        """Let the next request that contains `matching` be executed, drop its reply and close that connection.

        `matching` is searched in the request's words joined by spaces, for example `b"EVALSHA"` or `b"INCRBY counter"`.
        Calls add up: two of them lose two replies. Requests on a subscribed connection are not counted correctly.
        """
        with self._lock:
            self._to_swallow.append(matching)

    def lead_to(self, target_port: int) -> None:
        """Connect whoever comes from now on to another server; what is connected stays where it is.

        So does one address behind which a failover happens: a service of Kubernetes, a name in DNS, a load balancer.
        """
        with self._lock:
            self._target_port = target_port

    def cut(self) -> None:
        """Close all connections; new ones are accepted."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            connection.close()

    def refuse(self) -> None:
        """Close all connections and refuse new ones."""
        if self._listener:
            self._listener.end()
        self._listener = None
        self.cut()

    def accept(self) -> None:
        """Accept connections again, on the same port."""
        if self._listener is None:
            self._listener = _Listener(self)

    def __enter__(self) -> Self:
        """Start accepting connections."""
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop for good."""
        self.refuse()

    def connect(self, client: socket.socket) -> None:
        """Connect a new client to the server; if the server is down, close the client's connection."""
        with self._lock:
            target_port = self._target_port
        try:
            server = socket.create_connection((LOOPBACK, target_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        connection = _ProxiedConnection(self, client, server)
        with self._lock:
            self._connections.add(connection)
        connection.start()

    def should_swallow(self, request: bytes) -> bool:
        """Tell whether the reply to `request` is to be lost; each call of `swallow_next_reply` counts once."""
        with self._lock:
            found = next((pattern for pattern in self._to_swallow if pattern in request), None)
            if found is not None:
                self._to_swallow.remove(found)
            return found is not None

    def note_swallowed(self, connection: _ProxiedConnection) -> None:
        """Count the reply that `connection` has swallowed."""
        with self._lock:
            self._swallowed += 1
            self._connections.discard(connection)

    def forget(self, connection: _ProxiedConnection) -> None:
        """Forget a connection that is closed."""
        with self._lock:
            self._connections.discard(connection)


class _Listener:
    """The open port: its thread owns the socket, so that it is not closed while it is waited on."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._stopping = threading.Event()
        self._socket = socket.create_server((LOOPBACK, proxy.port))
        self._socket.settimeout(_POLL_SECONDS)
        self._thread = threading.Thread(target=self._run, name="proxy-accept", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        with self._socket:
            while not self._stopping.is_set():
                with suppress(TimeoutError):
                    client, _ = self._socket.accept()
                    client.settimeout(None)
                    self._proxy.connect(client)


@dataclass(eq=False, slots=True)
class _ProxiedConnection:
    """One client's connection and its counterpart; replies are counted to find the one to lose."""

    proxy: Proxy
    client: socket.socket
    server: socket.socket
    requests: hiredis.Reader = field(default_factory=lambda: hiredis.Reader(notEnoughData=_INCOMPLETE))
    replies: hiredis.Reader = field(default_factory=lambda: hiredis.Reader(notEnoughData=_INCOMPLETE))
    requested: int = 0
    answered: int = 0
    swallow_at: int | None = None

    def start(self) -> None:
        # The two pumps share `swallow_at`: it is set before the request is forwarded, so before its reply can arrive.
        pumps = [threading.Thread(target=pump, daemon=True) for pump in (self._forward, self._return)]
        for pump in pumps:
            pump.start()
        threading.Thread(target=self._clean_up, args=(pumps,), daemon=True).start()

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _forward(self) -> None:
        with suppress(OSError):
            while data := self.client.recv(_BUFFER):
                self._count_requests(data)
                self.server.sendall(data)
        self.close()

    def _return(self) -> None:
        with suppress(OSError):
            while data := self.server.recv(_BUFFER):
                self._count_replies(data)
                if self.swallow_at is not None and self.answered >= self.swallow_at:
                    self.proxy.note_swallowed(self)
                    break
                self.client.sendall(data)
        self.close()

    def _count_requests(self, data: bytes) -> None:
        self.requests.feed(data)
        while (request := self.requests.gets()) is not _INCOMPLETE:
            self.requested += 1
            if self.swallow_at is None and self.proxy.should_swallow(b" ".join(request)):
                self.swallow_at = self.requested

    def _count_replies(self, data: bytes) -> None:
        self.replies.feed(data)
        while (reply := self.replies.gets()) is not _INCOMPLETE:
            self.answered += not isinstance(reply, hiredis.PushNotification)

    def _clean_up(self, pumps: list[threading.Thread]) -> None:
        for pump in pumps:
            pump.join()
        self.client.close()
        self.server.close()
        self.proxy.forget(self)
