"""Serves a worker's metrics: a small HTTP server in threads, for Prometheus and nobody else."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from chunkspool.metrics.exposition import Exposition

PATH: Final = "/metrics"
REQUEST_SECONDS: Final = 10.0
"""How long a client may take to send its request, or to take the reply."""


class MetricsServer:
    """Listens from `start` on, until `close`."""

    def __init__(self, exposition: Exposition, host: str, port: int) -> None:
        """Listen. Raises `OSError` if the port is taken, or the host is no address of this machine."""
        self._server = _Server((host, port), _handler_of(exposition), exposition.tell_once)
        # A child of the pool that outlives this process would keep the port from the next worker.
        os.register_at_fork(after_in_child=self._server.socket.close)
        self._thread = threading.Thread(target=self._server.serve_forever, name="chunkspool-metrics", daemon=True)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(
        self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], tell: Callable[[BaseException], None]
    ) -> None:
        self._tell = tell
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name, as the class above would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, *_: object) -> None:
        """Tell of an error, unless it is the connection's: a scraper that hangs up is no news."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self._tell(error)


def _handler_of(exposition: Exposition) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version, sys_version = "chunkspool", ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != PATH:
                self._reply(HTTPStatus.NOT_FOUND, "text/plain", f"the metrics are at {PATH}\n".encode())
            elif not exposition.admits(self.headers.get("Authorization")):
                self._reply(HTTPStatus.UNAUTHORIZED, "text/plain", b"Authorization: Bearer, with the token\n")
            else:
                answer = exposition.answer(self.headers.get("Accept", ""))
                self._reply(answer.status, answer.content_type, answer.body)

        def _reply(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
            self.send_response(status)
            if status == HTTPStatus.UNAUTHORIZED:
                self.send_header("WWW-Authenticate", "Bearer")
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log no requests."""

    return Handler
