"""Speak HTTP by hand over raw sockets, as no well-behaved client does."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from chunkspool.demo.ports import LOOPBACK

CLOSE_WITH_RESET = struct.pack("ii", 1, 0)


def connect(port: int, *, receive_buffer: int | None = None) -> socket.socket:
    """Open a connection to a server of this machine."""
    opened = socket.socket()
    if receive_buffer is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    opened.settimeout(30)
    opened.connect((LOOPBACK, port))
    return opened


def head(method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
    """Return a request without its body."""
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: localhost", *headers, "", ""]).encode()


def chunk(body: bytes) -> bytes:
    """Return a chunk of a body that is sent in chunks."""
    return b"%x\r\n%b\r\n" % (len(body), body)


def hang_up(*opened: socket.socket) -> None:
    """Close connections without a reset, unless something was left unread."""
    for one in opened:
        one.close()


def reset(*opened: socket.socket) -> None:
    """Close connections with a reset."""
    for one in opened:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, CLOSE_WITH_RESET)
        one.close()


def read_until(opened: socket.socket, wanted: bytes) -> bytes:
    """Read until `wanted` was read; fail if the connection ends before."""
    found = b""
    while wanted not in found:
        piece = opened.recv(65_536)
        assert piece, f"the connection ended after {found!r}"
        found += piece
    return found


def read_to_end(opened: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while piece := opened.recv(65_536):
            found += piece
    return found


CHUNKED = "Transfer-Encoding: chunked"
Abuse = Callable[[int, str], socket.socket]
"""Opens a connection to a port, asks for the stream at a path, and does what no client should do."""


def send_too_large_a_chunked_body(port: int, path: str) -> socket.socket:
    """Follow a stream, and send more than the limit in chunks."""
    opened = connect(port)
    opened.sendall(head("GET", path, CHUNKED))
    read_until(opened, b"id: 1")
    with suppress(OSError):
        opened.sendall(chunk(b"x" * 1500) * 2)
    return opened


def announce_too_large_a_body(port: int, path: str) -> socket.socket:
    """Announce more than the limit, and send some of it."""
    opened = connect(port)
    opened.sendall(head("GET", path, "Content-Length: 1000000") + b"x" * 5000)
    return opened


def send_a_body_for_ever(port: int, path: str) -> socket.socket:
    """Follow a stream, and never end the body."""
    opened = connect(port)
    opened.sendall(head("GET", path, CHUNKED) + chunk(b"x"))
    read_until(opened, b"id: 1")
    opened.sendall(chunk(b"y"))
    return opened


def pipeline_one(port: int, path: str) -> socket.socket:
    """Send another request behind that for the stream."""
    opened = connect(port)
    opened.sendall(head("GET", path) + head("GET", "/healthz"))
    read_until(opened, b"id: 1")
    return opened


def pipeline_later(port: int, path: str) -> socket.socket:
    """Send another request when the stream is open."""
    opened = connect(port)
    opened.sendall(head("GET", path))
    read_until(opened, b"id: 1")
    opened.sendall(head("GET", "/healthz"))
    return opened


def pipeline_many(port: int, path: str) -> socket.socket:
    """Ask for the same stream many times at once."""
    opened = connect(port)
    opened.sendall(head("GET", path) * 20)
    read_until(opened, b"id: 1")
    return opened


def close_half(port: int, path: str) -> socket.socket:
    """Follow a stream, and say that nothing more is sent."""
    opened = connect(port)
    opened.sendall(head("GET", path))
    read_until(opened, b"id: 1")
    opened.shutdown(socket.SHUT_WR)
    return opened


def leave_at_once(port: int, path: str) -> socket.socket:
    """Ask, and be gone before the stream is there."""
    opened = connect(port)
    opened.sendall(head("GET", path))
    return opened


def speak_old_http(port: int, path: str) -> socket.socket:
    """Follow a stream with HTTP/1.0."""
    opened = connect(port)
    opened.sendall(head("GET", path, version="1.0"))
    read_until(opened, b"id: 1")
    return opened


def ask_for_the_head(port: int, path: str) -> socket.socket:
    """Ask for the headers of a stream only."""
    opened = connect(port)
    opened.sendall(head("HEAD", path))
    read_until(opened, b"\r\n\r\n")
    return opened


def send_half_a_request(port: int, path: str) -> socket.socket:
    """Begin a second request behind that for the stream."""
    opened = connect(port)
    opened.sendall(head("GET", path) + head("GET", path)[:-4])
    read_until(opened, b"id: 1")
    return opened


def pipeline_behind_a_question(port: int, path: str) -> socket.socket:
    """Ask as a front end does, with another request behind it."""
    chat = path.split("/")[3]
    part = {"type": "text", "text": "x"}
    body = json.dumps({"id": chat, "messages": [{"id": "m1", "role": "user", "parts": [part]}]}).encode()
    opened = connect(port)
    headers = head("POST", "/api/chat", "Content-Type: application/json", f"Content-Length: {len(body)}")
    opened.sendall(headers + body + head("GET", path))
    read_until(opened, b"data: ")
    return opened


def follow(port: int, path: str) -> socket.socket:
    """Follow a stream as everybody does."""
    opened = connect(port)
    opened.sendall(head("GET", path))
    read_until(opened, b"id: 1")
    return opened


ABUSES: tuple[Abuse, ...] = (
    send_too_large_a_chunked_body,
    announce_too_large_a_body,
    send_a_body_for_ever,
    pipeline_one,
    pipeline_later,
    pipeline_many,
    close_half,
    leave_at_once,
    speak_old_http,
    ask_for_the_head,
    send_half_a_request,
    pipeline_behind_a_question,
    follow,
)
"""All that a client can do to a stream before it leaves."""
