"""`chunkspool tenant set`: numbers as a person writes them."""

from __future__ import annotations

import pytest

from chunkspool.cli.quantities import parse_limit
from chunkspool.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("running", "50", 50),
        ("ttl", "7d", 604_800),
        ("ttl", "12h", 43_200),
        ("ttl", "90s", 90),
        ("ttl", "1.5", 1.5),
        ("ttl", "2 min", 120),
        ("chat_bytes", "64MB", 64 * 1024**2),
        ("bytes", "2TB", 2 * 1024**4),
        ("request_bytes", "256kB", 256 * 1024),
        ("request_bytes", "1000", 1000),
        ("queued", "default", None),
    ],
)
def test_a_limit_is_read_with_its_unit(name: str, text: str, value: float | None) -> None:
    """Times in s, min, h or d; sizes in kB, MB or GB; "default" gives the setting's own."""
    assert parse_limit(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [("running", "many"), ("running", "5d"), ("running", "-1"), ("ttl", "7 years"), ("chat_bytes", "1d"), ("ttl", "")],
)
def test_what_is_no_limit_is_an_error_that_names_it(name: str, text: str) -> None:
    """And says what may be written."""
    with pytest.raises(InvalidInput, match=name):
        parse_limit(name, text)
