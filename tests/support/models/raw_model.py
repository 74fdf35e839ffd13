"""A model server whose every byte is set by the test, and which records requests and disconnects."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

from chunkspool.demo.ports import LOOPBACK

_BUFFER = 65_536
_HEADERS_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it arrived."""

    at: float
    """When it was complete, by `time.monotonic()`."""
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Exchange:
    """A connection whose client has sent a request and waits for the test's answer."""

    def __init__(self, connection: socket.socket, note_disconnect: Callable[[], None]) -> None:
        """Take a connection; `note_disconnect` is called once `wait_for_disconnect` has seen the client leave."""
        self._connection = connection
        self._note_disconnect = note_disconnect
        self._received = b""

    def send(self, data: bytes) -> None:
        """Send bytes unchanged."""
        self._connection.sendall(data)

    def send_head(self, status: int = 200, **headers: str) -> None:
        """Send the status line and headers (`retry_after="1"` for Retry-After); by default the body is chunked."""
        framing = {} if "content_length" in headers else {"transfer_encoding": "chunked"}
        given = {"content_type": "text/event-stream", **framing, **headers}
        # Some servers have a status of their own, such as 529.
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Unknown"
        lines = [f"HTTP/1.1 {status} {phrase}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in given.items()]
        self.send("\r\n".join(lines).encode() + _HEADERS_END)

    def send_chunk(self, data: bytes) -> None:
        """Send a chunk of the body; an empty one ends it."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def wait_for_disconnect(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionResetError):
            while self._connection.recv(_BUFFER):
                pass
        self._note_disconnect()

    def read_request(self) -> Request | None:
        """Return the next request, or None if the client has left."""
        while _HEADERS_END not in self._received:
            if not self._receive():
                return None
        head, _, self._received = self._received.partition(_HEADERS_END)
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        while len(self._received) < size:
            if not self._receive():
                return None
        body, self._received = self._received[:size], self._received[size:]
        return Request(time.monotonic(), first.split(" ")[1], headers, json.loads(body) if body else {})

    def _receive(self) -> bool:
        data = self._connection.recv(_BUFFER)
        self._received += data
        return bool(data)


AnswerFunction = Callable[[Exchange], bool | None]
"""Answers one request. If it returns True, the connection stays open for the next one."""


def answer_with_stream(*pieces: bytes) -> AnswerFunction:
    """Return a function that answers with a stream, sends each piece separately and ends it in order."""

    def answer(exchange: Exchange) -> bool:
        exchange.send_head()
        for piece in (*pieces, b""):
            exchange.send_chunk(piece)
        return True

    return answer


def answer_with_error(status: int, body: object = None, **headers: str) -> AnswerFunction:
    """Return a function that answers with an error: `body` as JSON, and further headers."""
    raw = b"" if body is None else json.dumps(body).encode()

    def answer(exchange: Exchange) -> bool:
        exchange.send_head(status, content_type="application/json", content_length=str(len(raw)), **headers)
        exchange.send(raw)
        return True

    return answer


def stay_silent(exchange: Exchange) -> None:
    """Send nothing until the client leaves."""
    exchange.wait_for_disconnect()


def close_connection(exchange: Exchange) -> None:
    """Close the connection without an answer."""


class RawModel:
    """Gives the n-th request the n-th answer, and later ones the last. Use it as a context manager."""

    def __init__(self, *answers: AnswerFunction) -> None:
        """Bind a port; it does not accept connections before the block is entered."""
        self._answers = answers
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._connections: set[socket.socket] = set()
        self._connected = 0
        self._disconnected = 0
        self._listener = socket.create_server((LOOPBACK, 0))

    @property
    def base_url(self) -> str:
        """The OpenAI client's base_url."""
        return f"http://{LOOPBACK}:{self._listener.getsockname()[1]}/v1"

    @property
    def requests(self) -> list[Request]:
        """The requests so far."""
        with self._lock:
            return list(self._requests)

    @property
    def connected(self) -> int:
        """How many connections were opened so far."""
        with self._lock:
            return self._connected

    @property
    def disconnected(self) -> int:
        """How many connections the client closed while an answer waited for it."""
        with self._lock:
            return self._disconnected

    def __enter__(self) -> Self:
        """Start accepting connections."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        with self._lock:
            connections = list(self._connections)
        for one in (self._listener, *connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(connection)
                self._connected += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        # The client may leave at any moment.
        with connection, suppress(ConnectionError):
            exchange = Exchange(connection, self._note_disconnect)
            while (request := exchange.read_request()) is not None:
                with self._lock:
                    self._requests.append(request)
                    answer = self._answers[min(len(self._requests), len(self._answers)) - 1]
                if not answer(exchange):
                    break
        with self._lock:
            self._connections.discard(connection)

    def _note_disconnect(self) -> None:
        with self._lock:
            self._disconnected += 1
