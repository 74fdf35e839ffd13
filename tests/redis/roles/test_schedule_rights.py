"""A right that only the schedule's thread lacks: no caller would notice, so the log says it, once."""

from __future__ import annotations

import logging
from functools import partial

import pytest
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.servers.roles import RoleServer, without
from support.waiting import eventually

from chunkspool.spool import scheduler
from chunkspool.store.keys import QueueKeys

pytestmark = pytest.mark.both_servers

RUNNING = QueueKeys("chunkspool").running


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the thread has said."""
    return [record.getMessage() for record in caplog.records if record.name == scheduler.__name__]


def test_a_right_that_the_schedule_lacks_is_named_once(
    server: RoleServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it tries. With the right it goes on, and says so again if it is taken away once more."""
    tries = []
    wait = scheduler.RetryBudget.pause

    def pause(budget: scheduler.RetryBudget) -> float:
        tries.append(budget)
        return min(wait(budget), 0.05)

    monkeypatch.setattr(scheduler.RetryBudget, "pause", pause)
    rules = server.rights["worker"]
    with spool_for(server.url) as web, spool_for(server.worker_url) as worker, server.client() as admin:
        for round_ in (1, 2):
            chat = f"{CHAT}-{round_}"
            server.grant("worker", without(rules, "+zscore"))
            tries.clear()
            made = web.enqueue(chat, "x")
            with worker.produce(chat, made.generation_id) as out:
                out.text("x")
            eventually(lambda: len(tries) > 5)
            assert len(told(caplog)) == round_
            assert "+zscore" in told(caplog)[-1]
            assert caplog.records[-1].levelno == logging.ERROR
            server.grant("worker", rules)
            eventually(partial(ended, admin, made.generation_id))
    server.refused()


def ended(admin: Redis, generation_id: str) -> bool:
    """Tell whether the schedule knows that a generation is over."""
    return not any(generation_id.encode() in member for member in admin.zrange("cs:{index}:active:default", 0, -1))
