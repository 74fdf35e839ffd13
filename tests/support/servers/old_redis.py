"""What Redis 6.2 cannot do: tests of that are skipped there, and say why."""

from __future__ import annotations

import pytest
from redis import Redis


def is_old(client: Redis) -> bool:
    """Tell whether a client's server is a Redis 6.2."""
    return str(client.info("server")["redis_version"]).startswith("6.")


def skip_on_old(client: Redis, reason: str) -> None:
    """Skip the test if the server is that old."""
    if is_old(client):
        pytest.skip(f"Redis 6.2: {reason}")
