"""Tasks of many kinds that belong to somebody's own Celery app, and a suite that sends each of them.

Each run of a task is a line of the file RUNS, so that what happened can be compared.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from celery import Celery, Task, chord, group, shared_task

from chunkspool import AsyncSpool, Spool


class Lock(Task):  # type: ignore[misc] # Celery has no types
    """A task class with a method of a common name."""

    def release(self) -> None:
        """Say that somebody called it: nobody should."""
        note("lock released")


@shared_task(name="yours.add")
def add(one: int, other: int) -> int:
    """Return a result."""
    return one + other


@shared_task(name="yours.fail")
def fail() -> None:
    """Fail."""
    raise ValueError("as it should")


@shared_task(name="yours.flaky", bind=True, max_retries=3, base=Lock)
def flaky(self: Any) -> int:
    """Fail twice, then return how often it was tried."""
    note("flaky")
    if self.request.retries < 2:
        # Celery publishes the message before it stores the state RETRY: sooner, the result could be there first.
        raise self.retry(countdown=1)
    return int(self.request.retries)


@shared_task(name="yours.slow")
def slow(seconds: float) -> str:
    """Take a while, in a queue of its own."""
    note("slow")
    time.sleep(seconds)
    return "slept"


@shared_task(name="yours.describe", bind=True)
def describe(self: Any) -> dict[str, Any]:
    """Return what the task knows of itself."""
    info = self.request.delivery_info
    names = ("acks_late", "rate_limit", "time_limit", "ignore_result", "track_started", "reject_on_worker_lost")
    return {"queue": info["routing_key"], "redelivered": info["redelivered"], **{n: getattr(self, n) for n in names}}


@shared_task(name="yours.plain")
def plain(tenant: str, chat_id: str, generation_id: str) -> None:
    """Write a generation in a task that is like any other."""
    with Spool.from_env() as spool, spool.for_tenant(tenant).produce(chat_id, generation_id) as out:
        out.text("plain")


@shared_task(name="yours.plain_async")
def plain_async(tenant: str, chat_id: str, generation_id: str) -> None:
    """Do the same in a coroutine."""
    asyncio.run(_answer(tenant, chat_id, generation_id))


async def _answer(tenant: str, chat_id: str, generation_id: str) -> None:
    async with AsyncSpool.from_env() as spool, spool.for_tenant(tenant).produce(chat_id, generation_id) as out:
        out.text("plain")


@shared_task(name="yours.total")
def total(numbers: list[int]) -> int:
    """Add up what others returned."""
    return sum(numbers)


def run_suite(app: Celery) -> dict[str, Any]:
    """Send everything to a worker of the app; return what came of it."""
    app.set_current()
    later = add.apply_async((40, 2), countdown=0.5)
    expired = add.apply_async((1, 1), expires=-1)
    revoked = add.apply_async((1, 1), countdown=60)
    revoked.revoke()
    results = {
        "add": add.delay(1, 2),
        "flaky": flaky.delay(),
        "slow": slow.delay(0.1),
        "describe": describe.delay(),
        "group": group(add.s(i, i) for i in range(5))(),
        "chain": (add.s(1, 1) | add.s(2) | add.s(3))(),
        "chord": chord([add.s(i, 1) for i in range(4)], total.s())(),
        "later": later,
    }
    seen = {name: result.get(timeout=30) for name, result in results.items()}
    failed = fail.delay()
    failed.get(timeout=30, propagate=False)
    expired.get(timeout=30, propagate=False)
    revoked.get(timeout=30, propagate=False)
    states = {"expired": expired.state, "revoked": revoked.state}
    return {**seen, "fail": (failed.state, repr(failed.result)), **states}


def note(what: str) -> None:
    """Write a line."""
    with Path(os.environ["RUNS"]).open("a") as runs:
        runs.write(f"{what}\n")
