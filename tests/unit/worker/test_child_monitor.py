"""Promise 9: a prefork worker checks often for killed children; tests with real workers show the effect."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

from celery.concurrency.prefork import TaskPool
from celery.concurrency.thread import TaskPool as Threads

from chunkspool.worker.prefork import ChildMonitor


def consumer_of(kind: type[Any]) -> SimpleNamespace:
    """Return a stand-in for the parts of a consumer that the step uses."""
    pool = kind.__new__(kind)
    pool.maintain_pool = Mock()
    return SimpleNamespace(pool=pool, timer=Mock())


def test_it_checks_until_it_is_stopped() -> None:
    """Twice a second, with one timer at a time: a reconnect stops the step and starts it again."""
    consumer = consumer_of(TaskPool)
    step = ChildMonitor(consumer)
    assert step.enabled
    for number in (1, 2):
        step.start(consumer)
        step.stop(consumer)
        assert consumer.timer.call_repeatedly.call_args_list[number - 1] == call(0.5, consumer.pool.maintain_pool)
        assert consumer.timer.call_repeatedly.return_value.cancel.call_count == number


def test_it_is_disabled_on_other_pools() -> None:
    """A pool of threads has no children."""
    assert not ChildMonitor(consumer_of(Threads)).enabled
