"""Promise 9: a prefork worker looks often for killed children; `make recovery` and real workers show the rest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

from celery.concurrency.prefork import TaskPool
from celery.concurrency.thread import TaskPool as Threads

from worker.prefork import ChildMonitor


def consumer_of(kind: type[Any]) -> SimpleNamespace:
    """Return as much of a consumer as the step needs."""
    pool = kind.__new__(kind)
    pool.maintain_pool = Mock()
    return SimpleNamespace(pool=pool, timer=Mock())


def test_it_looks_until_it_is_stopped() -> None:
    """Twice a second, also after a reconnect, which stops and starts the step: one timer at a time."""
    consumer = consumer_of(TaskPool)
    step = ChildMonitor(consumer)
    assert step.enabled
    for number in (1, 2):
        step.start(consumer)
        step.stop(consumer)
        assert consumer.timer.call_repeatedly.call_args_list[number - 1] == call(0.5, consumer.pool.maintain_pool)
        assert consumer.timer.call_repeatedly.return_value.cancel.call_count == number


def test_other_pools_have_none() -> None:
    """Threads are no children."""
    assert not ChildMonitor(consumer_of(Threads)).enabled
