"""Stand between a client and a Redis server and break things on demand: lose a reply, cut, refuse, lead elsewhere."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import hiredis

from demo.ports import LOOPBACK, free_port

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
        self._wanted: list[bytes] = []
        self._swallowed = 0
        self._links: set[_Link] = set()
        self._listening: _Listening | None = None

    @property
    def url(self) -> str:
        """The server's URL by way of this proxy."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def swallowed(self) -> int:
        """How many replies were lost so far."""
        with self._lock:
            return self._swallowed

    def swallow_next_reply(self, matching: bytes) -> None:
        """Let the next request that contains `matching` be executed, drop its reply and close that connection.

        `matching` is searched in the request's words joined by spaces, for example `b"EVALSHA"` or `b"INCRBY counter"`.
        Calls add up: two of them lose two replies. Requests on a connection that has subscribed are not counted right.
        """
        with self._lock:
            self._wanted.append(matching)

    def lead_to(self, target_port: int) -> None:
        """Connect whoever comes from now on to another server; what is connected stays where it is.

        So does one address behind which a failover happens: a service of Kubernetes, a name in DNS, a load balancer.
        """
        with self._lock:
            self._target_port = target_port

    def cut(self) -> None:
        """Close all connections; new ones are welcome."""
        with self._lock:
            links, self._links = self._links, set()
        for link in links:
            link.close()

    def refuse(self) -> None:
        """Be down: close all connections and refuse new ones."""
        if self._listening:
            self._listening.end()
        self._listening = None
        self.cut()

    def accept(self) -> None:
        """Be up again, on the same port."""
        if self._listening is None:
            self._listening = _Listening(self)

    def __enter__(self) -> Self:
        """Be up."""
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        """Be down for good."""
        self.refuse()

    def welcome(self, client: socket.socket) -> None:
        """Connect a client that has come to the server; without a server the client is sent away."""
        with self._lock:
            target_port = self._target_port
        try:
            server = socket.create_connection((LOOPBACK, target_port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(self, client, server)
        with self._lock:
            self._links.add(link)
        link.start()

    def wants(self, request: bytes) -> bool:
        """Tell whether the reply to `request` is to be lost; each wish is granted once."""
        with self._lock:
            hit = next((wish for wish in self._wanted if wish in request), None)
            if hit is not None:
                self._wanted.remove(hit)
            return hit is not None

    def lost(self, link: _Link) -> None:
        """Count the reply that `link` has swallowed."""
        with self._lock:
            self._swallowed += 1
            self._links.discard(link)

    def gone(self, link: _Link) -> None:
        """Forget a link whose connections are closed."""
        with self._lock:
            self._links.discard(link)


class _Listening:
    """The open port: a thread that owns the socket, so that nobody closes it while it is being waited on."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._over = threading.Event()
        self._socket = socket.create_server((LOOPBACK, proxy.port))
        self._socket.settimeout(_POLL_SECONDS)
        self._thread = threading.Thread(target=self._run, name="proxy-accept", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with self._socket:
            while not self._over.is_set():
                with suppress(TimeoutError):
                    client, _ = self._socket.accept()
                    client.settimeout(None)
                    self._proxy.welcome(client)


@dataclass(eq=False, slots=True)
class _Link:
    """One client's connection and its counterpart; replies are counted to find the one of the wanted request."""

    proxy: Proxy
    client: socket.socket
    server: socket.socket
    requests: hiredis.Reader = field(default_factory=lambda: hiredis.Reader(notEnoughData=_INCOMPLETE))
    replies: hiredis.Reader = field(default_factory=lambda: hiredis.Reader(notEnoughData=_INCOMPLETE))
    asked: int = 0
    answered: int = 0
    doomed: int | None = None

    def start(self) -> None:
        # The two pumps share `doomed`: it is set before the request is forwarded, so before its reply can arrive.
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
                if self.doomed is not None and self.answered >= self.doomed:
                    self.proxy.lost(self)
                    break
                self.client.sendall(data)
        self.close()

    def _count_requests(self, data: bytes) -> None:
        self.requests.feed(data)
        while (request := self.requests.gets()) is not _INCOMPLETE:
            self.asked += 1
            if self.doomed is None and self.proxy.wants(b" ".join(request)):
                self.doomed = self.asked

    def _count_replies(self, data: bytes) -> None:
        self.replies.feed(data)
        while (reply := self.replies.gets()) is not _INCOMPLETE:
            self.answered += not isinstance(reply, hiredis.PushNotification)

    def _clean_up(self, pumps: list[threading.Thread]) -> None:
        for pump in pumps:
            pump.join()
        self.client.close()
        self.server.close()
        self.proxy.gone(self)
