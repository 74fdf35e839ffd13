"""HTTP/2 over TLS by hand: many event streams on one connection, each of which can be reset for itself."""

from __future__ import annotations

import socket
import ssl
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from chunkspool.demo.ports import LOOPBACK


class Http2Client:
    """One connection to a server of this machine that is signed by the authority in `ca`."""

    def __init__(self, port: int, ca: Path) -> None:
        """Connect; fail if the server speaks no HTTP/2."""
        context = ssl.create_default_context(cafile=str(ca))
        context.set_alpn_protocols(["h2"])
        self._socket = context.wrap_socket(socket.create_connection((LOOPBACK, port), 30), server_hostname=LOOPBACK)
        assert self._socket.selected_alpn_protocol() == "h2"
        self._connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._connection.initiate_connection()
        self.statuses: dict[int, str] = {}
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.ended: set[int] = set()
        self._flush()

    def ask(self, path: str, *, method: str = "GET", has_body: bool = False) -> int:
        """Send a request; return its stream's number. With `has_body`, its body is still to be sent."""
        number = self._connection.get_next_available_stream_id()
        headers = {":method": method, ":authority": "localhost", ":scheme": "https", ":path": path}
        self._connection.send_headers(number, list(headers.items()), end_stream=not has_body)
        self._flush()
        return number

    def send(self, number: int, body: bytes, *, is_last: bool = False) -> None:
        """Send a piece of a request's body."""
        self._connection.send_data(number, body, end_stream=is_last)
        self._flush()

    def reset(self, number: int) -> None:
        """Give a stream up, as a browser does when a page closes it."""
        self._connection.reset_stream(number, ErrorCodes.CANCEL)
        self._flush()

    def read_until(self, has_come: Callable[[Http2Client], bool], *, takes: bool = True) -> None:
        """Read until something has come; fail if the connection ends before.

        Unless it `takes` what comes, the server may soon send no more.
        """
        while not has_come(self):
            piece = self._socket.recv(65_536)
            assert piece, f"the connection ended after {dict(self.bodies)}"
            for event in self._connection.receive_data(piece):
                if isinstance(event, ResponseReceived):
                    self.statuses[event.stream_id] = dict(event.headers)[":status"]
                elif isinstance(event, DataReceived):
                    self.bodies[event.stream_id] += event.data
                    if takes:
                        self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, StreamEnded | StreamReset):
                    self.ended.add(event.stream_id)
            self._flush()

    def close(self) -> None:
        """Close the connection under whatever it carries."""
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
