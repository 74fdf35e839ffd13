"""The worker's prefork pool, after a child has died while the broker was unreachable."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

from chunkspool.worker.prefork import Pool


def dead_child() -> SimpleNamespace:
    """Return a child whose death the pool has noticed and which it could not replace yet."""
    return SimpleNamespace(_sentinel_poll=None)


def test_a_dead_child_does_not_end_the_worker() -> None:
    """After a reconnect all children are registered again, except the dead one."""
    pool, hub = Pool.__new__(Pool), Hub()
    reading, writing = os.pipe()
    try:
        pool._track_child_process(dead_child(), hub)  # noqa: SLF001 - Celery's own name for it
        pool._track_child_process(SimpleNamespace(_sentinel_poll=reading), hub)  # noqa: SLF001 - as above
        assert list(hub.readers) == [reading]
    finally:
        hub.close()
        os.close(reading)
        os.close(writing)


def test_celerys_own_pool_still_has_the_fault() -> None:
    """As long as this passes, `worker/prefork.py` is needed."""
    hub = Hub()
    with pytest.raises(ValueError, match="file descriptor is None"):
        AsynPool._track_child_process(AsynPool.__new__(AsynPool), dead_child(), hub)  # noqa: SLF001 - as above
    hub.close()
