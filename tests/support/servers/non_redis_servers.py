"""Servers that are not Redis: one speaks HTTP, one is silent, one hangs up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chunkspool.demo.ports import LOOPBACK


class _QuietHandler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing to the test's output."""


@contextmanager
def http_server() -> Iterator[int]:
    """Provide the port of a web server."""
    with ThreadingHTTPServer((LOOPBACK, 0), _QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent_server() -> Iterator[int]:
    """Provide the port of a server that accepts connections and never answers."""
    with _accept_connections(lambda _client: None) as port:
        yield port


@contextmanager
def closing_server() -> Iterator[int]:
    """Provide the port of a server that accepts connections and hangs up at once."""
    with _accept_connections(lambda client: client.close()) as port:
        yield port


@contextmanager
def _accept_connections(on_connect: Callable[[socket.socket], None]) -> Iterator[int]:
    listener = socket.create_server((LOOPBACK, 0))
    listener.settimeout(0.05)
    stopping, clients = threading.Event(), list[socket.socket]()

    def accept() -> None:
        while not stopping.is_set():
            with suppress(TimeoutError):
                clients.append(listener.accept()[0])
                on_connect(clients[-1])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stopping.set()
        thread.join()
        for one in (listener, *clients):
            one.close()
