"""A message whose generation cannot run now is requeued, not lost."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.exceptions import Reject

from chunkspool.errors import NotClaimed, ProviderError, Released, StoreFull, StoreUnavailable
from chunkspool.tasks import celery_tasks, generation_task


class FailingRuntime:
    """A process's runtime in which the generation fails."""

    provider = None
    spool = SimpleNamespace(for_tenant=lambda _tenant: None)

    def __init__(self, error: Exception) -> None:
        """Raise `error` when the generation runs."""
        self._error = error

    def run(self, coroutine: Any) -> None:
        """Fail."""
        coroutine.close()
        raise self._error


def run_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Run the task in a process where the generation fails with `error`."""
    monkeypatch.setattr(generation_task, "_runtime", SimpleNamespace(get=lambda: FailingRuntime(error)))
    monkeypatch.setattr(generation_task, "PAUSE", 0.0)
    celery_tasks.generate.run("tenant", "chat", "generation")


ERRORS = [StoreUnavailable("away"), StoreFull("full"), NotClaimed("generation", "held"), Released("leaving")]


@pytest.mark.parametrize("error", ERRORS)
def test_what_cannot_run_now_is_requeued(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Redis unreachable or full, another attempt alive, or this process about to exit."""
    with pytest.raises(Reject) as rejected:
        run_with(monkeypatch, error)
    assert rejected.value.requeue is True
    assert rejected.value.reason is error


def test_a_failed_generation_is_not_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is in the log; nobody asked for a second run."""
    with pytest.raises(ProviderError):
        run_with(monkeypatch, ProviderError("rate_limit", "Too busy.", retryable=True))
