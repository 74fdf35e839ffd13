"""Asks Flower as a stranger would: without a user and a password."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from http.client import HTTPConnection, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from chunkspool.doctor.asking import Unanswered, within

_READ: Final = 65_536


def read_flower(url: str, seconds: float) -> int | Unanswered:
    """Return the status of Flower's first page for somebody who has no password."""
    return within(seconds, partial(_ask, url, seconds))


def _ask(url: str, seconds: float) -> int:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("write http://host:port or https://host")
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname, parts.port, timeout=seconds)) as connection:
        connection.request("GET", f"{parts.path.rstrip('/')}/workers")
        reply = connection.getresponse()
        reply.read(_READ)
        return reply.status
