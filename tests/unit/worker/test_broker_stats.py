"""`celery inspect stats`, which Flower shows as well, has no passwords in it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kombu import Connection

from chunkspool.urls.broker_url import CeleryBroker
from chunkspool.worker.broker_stats import stats

SECRET = "hunter2"


def state_of(broker: object) -> Any:
    """Return what a control command gets, with a worker whose statistics are these."""
    controller = SimpleNamespace(stats=lambda: {"pid": 1, "broker": broker})
    return SimpleNamespace(consumer=SimpleNamespace(controller=controller))


@pytest.mark.parametrize(
    "url",
    [
        f"unix://:{SECRET}@/run/redis.sock",
        f"redis+sentinel://host/chats?sentinel_password={SECRET}",
        f"redis+sentinel://one,two/chats?sentinel_username=s&sentinel_password={SECRET}",
    ],
)
def test_no_password_is_told(url: str) -> None:
    """Celery leaves out one password, and these are others; all else stays."""
    broker = CeleryBroker.from_url(url)
    with Connection(broker.url, transport_options=broker.transport_options) as connection:
        told = connection.info()
        found = stats(state_of(told))
        assert SECRET in str(told)
        assert SECRET not in str(found)
        assert found["broker"].keys() == told.keys()
        assert found["pid"] == 1
        assert connection.transport_options == broker.transport_options


def test_a_worker_without_a_connection_is_told_as_it_is() -> None:
    """Celery then has a word in that place."""
    assert stats(state_of("N/A")) == {"pid": 1, "broker": "N/A"}
