"""Starts the web app on the environment's server, and asks it over a plain socket."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from bench.harness.environment import Environment
from bench.harness.worker import ROOT, environment_of
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

_READY_SECONDS = 30.0


@contextmanager
def run_web_server(environment: Environment, parser: str | None = None) -> Iterator[tuple[int, psutil.Process]]:
    """Start the web app as `chunkspool serve` does, or with this HTTP parser; provide its port and its process."""
    port = free_port()
    program = ["bench.processes.web_app", str(port), parser] if parser else ["chunkspool.demo.web", str(port)]
    command = [sys.executable, "-m", *program]
    process = Process.start(
        f"web-{parser or 'serve'}", command, environment.folder, env=environment_of(environment, {}), cwd=ROOT
    )
    try:
        process.wait_until(lambda: is_taken(port), _READY_SECONDS)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()


def send_request(port: int, path: str) -> socket.socket:
    """Ask for something of a chat; the reply is read from the socket."""
    stream = socket.create_connection((LOOPBACK, port))
    stream.sendall(f"GET /v1/chats/{path} HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
    return stream
