"""Servers that are no Redis: one that speaks HTTP, one that says nothing, one that hangs up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from demo.ports import LOOPBACK


class _Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing to the test's output."""


@contextmanager
def http_server() -> Iterator[int]:
    """Give the port of a web server."""
    with ThreadingHTTPServer((LOOPBACK, 0), _Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent_server() -> Iterator[int]:
    """Give the port of a server that accepts connections and never answers."""
    with _accepting(lambda _client: None) as port:
        yield port


@contextmanager
def closing_server() -> Iterator[int]:
    """Give the port of a server that accepts connections and hangs up at once."""
    with _accepting(lambda client: client.close()) as port:
        yield port


@contextmanager
def _accepting(welcome: Callable[[socket.socket], None]) -> Iterator[int]:
    listening = socket.create_server((LOOPBACK, 0))
    listening.settimeout(0.05)
    over, guests = threading.Event(), list[socket.socket]()

    def accept() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                guests.append(listening.accept()[0])
                welcome(guests[-1])

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        thread.join()
        for one in (listening, *guests):
            one.close()
