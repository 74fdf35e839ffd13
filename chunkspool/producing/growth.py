"""Tells when so much of an attempt is in its chat's log that the log is worth a digest. No I/O."""

from __future__ import annotations

from typing import Final, Protocol

from chunkspool.store import blocks
from chunkspool.store.keys import ChatKeys

NOTED_BYTES: Final = 256 * 1024
"""Bytes of one attempt's events after which a digest is thought of, however few the events are."""


class OnGrown(Protocol):
    """What is told of a chat whose log has grown; it must not wait."""

    def __call__(self, keys: ChatKeys, *, has_large: bool) -> None:
        """Take note."""


class Growth:
    """How much has been written since it was last told of."""

    __slots__ = ("_bytes", "_seq", "has_large")

    def __init__(self) -> None:
        """Nothing was told yet: where the chat was long before, its first batch is told of."""
        self._seq = 0
        self._bytes = 0
        self.has_large = False
        """Whether the events that are told of are few and large."""

    def add(self, seq: int, size: int, *, is_last: bool) -> bool:
        """Add a batch of `size` bytes that ends at `seq`; return whether it is time to tell. A long chat's last is."""
        self._bytes += size
        is_long = seq - (0 if is_last else self._seq) >= blocks.BLOCK_EVENTS
        self.has_large = not is_long and self._bytes >= NOTED_BYTES
        if is_long or self.has_large:
            self._seq, self._bytes = seq, 0
            return True
        return False
