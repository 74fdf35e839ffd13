"""Follows an event stream for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx


@contextmanager
def following(client: httpx.Client, path: str) -> Iterator[httpx.Response]:
    """Follow within the block, which begins when the chat's first event is there."""
    with client.stream("GET", path) as response:
        pieces = response.iter_raw()  # held until the end: httpx hangs up when nobody has it any more
        said = b""
        while b"generation.queued" not in said:
            said += next(pieces)
        yield response
        del pieces
