"""Readers in the background, on an event loop and in threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.audience import FACES, Hall


@pytest.fixture(params=FACES)
def hall(request: pytest.FixtureRequest) -> Iterator[Hall]:
    """Give a place for readers; every test that asks for it runs for both faces."""
    with Hall(request.param) as opened:
        yield opened
