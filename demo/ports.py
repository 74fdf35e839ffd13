"""Finds ports on the loopback address."""

from __future__ import annotations

import secrets
import socket

LOOPBACK = "127.0.0.1"

# Below the range from which kernels take the ports of outgoing connections (Linux from 32768, macOS from 49152). While
# its server restarts, a client that keeps connecting to a port of that range can end up connected to itself, and then
# the server cannot have its port back.
_LOWEST, _HIGHEST = 20_000, 32_000
_TRIES = 200


def free_port() -> int:
    """Return a port that is free at this moment."""
    for _ in range(_TRIES):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if _can_bind(port):
            return port
    raise OSError(f"no free port found between {_LOWEST} and {_HIGHEST} in {_TRIES} tries")


def is_taken(port: int) -> bool:
    """Tell whether a process listens on `port`."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
