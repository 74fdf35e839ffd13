"""Fixtures of the tests of commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.chats.spools import spool_for

from chunkspool import Spool


@pytest.fixture
def spool(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that writes no questions, like the commands: most tests count seqs."""
    with spool_for(redis_url) as spool:
        yield spool
