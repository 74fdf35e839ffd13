"""Asks the workers, by Celery's remote commands, what they are and what they serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import redis

from chunkspool.doctor.asking import RedisQuestions, Unanswered, within
from chunkspool.doctor.worker_report import COMMAND, WorkerReport
from chunkspool.settings import Settings
from chunkspool.store.commands import as_text
from chunkspool.store.keys import QueueKeys
from chunkspool.urls.broker_url import CeleryBroker

if TYPE_CHECKING:  # so that the command line's other commands do not load Celery
    from celery import Celery

QUESTIONS: Final = 4
"""Rounds of questions, each with its time limit."""
_HELD_APART: Final = "chunkspool_redelivery"
"""The transport option of workers that serve a queue of generations."""
_OWN_KEYS: Final = QueueKeys("doctor").unacked(1)
"""kombu requeues what stands in the keys that it was told of; so it is told of keys that nobody has."""


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What one worker said."""

    name: str
    queues: tuple[str, ...]
    pool: str
    slots: int
    is_equipped: bool
    """Whether it serves a queue of generations as chunkspool's workers do."""
    report: WorkerReport | None
    """None: it was not asked, did not answer, or is of another version."""


@dataclass(frozen=True, slots=True)
class Workers:
    """All that answered, and those that have offered slots for a queue within the last twenty seconds."""

    answered: tuple[WorkerFacts, ...] | Unanswered
    offering: Mapping[str, Sequence[str]] | Unanswered


def read_workers(settings: Settings, queues: Sequence[str], seconds: float) -> Workers:
    """Ask all workers of the broker; `seconds`: of each round of questions."""
    # A reply may come late in each round, and connecting takes its time, too.
    answered = within(seconds * (QUESTIONS + 1), partial(_ask, settings, seconds))
    with closing(RedisQuestions(settings.log.redis_url, seconds)) as logs:
        return Workers(answered, logs.ask(partial(_read_offers, queues=queues)))


def _ask(settings: Settings, seconds: float) -> tuple[WorkerFacts, ...]:
    app = _make_app(settings, seconds)
    try:
        names = sorted(_inspect(app, seconds, None).ping() or {})
        if not names:
            return ()
        queues = _inspect(app, seconds, names).active_queues() or {}
        stats = _inspect(app, seconds, names).stats() or {}
        equipped = [name for name in names if _is_equipped(stats.get(name))]
        reports = _ask_reports(app, seconds, equipped) if equipped else {}
        return tuple(
            _describe(name, queues.get(name), stats.get(name), is_equipped=name in equipped, report=reports.get(name))
            for name in names
        )
    finally:
        app.close()


def _inspect(app: Celery, seconds: float, names: list[str] | None) -> Any:
    # With a limit, the round ends as soon as all have answered.
    return app.control.inspect(names, timeout=seconds, limit=len(names) if names else None)


def _ask_reports(app: Celery, seconds: float, names: list[str]) -> Mapping[str, Any]:
    replies = app.control.broadcast(COMMAND, destination=names, reply=True, timeout=seconds, limit=len(names))
    return {name: reply for one in replies or () for name, reply in one.items()}


def _describe(name: str, queues: Any, stats: Any, *, is_equipped: bool, report: Any) -> WorkerFacts:
    pool = stats.get("pool", {}) if isinstance(stats, Mapping) else {}
    return WorkerFacts(
        name,
        queues=tuple(sorted(queue["name"] for queue in queues or () if isinstance(queue, Mapping))),
        pool=_pool_of(str(pool.get("implementation", ""))),
        slots=int(pool.get("max-concurrency") or 1),
        is_equipped=is_equipped,
        report=WorkerReport.from_reply(report),
    )


def _pool_of(implementation: str) -> str:
    """Return the word for -P: `celery.concurrency.thread:TaskPool` is `threads`."""
    module = implementation.partition(":")[0].rpartition(".")[2]
    return "threads" if module == "thread" else module or "unknown"


def _is_equipped(stats: Any) -> bool:
    broker = stats.get("broker") if isinstance(stats, Mapping) else None
    return isinstance(broker, Mapping) and _HELD_APART in (broker.get("transport_options") or {})


def _make_app(settings: Settings, seconds: float) -> Celery:
    from celery import Celery  # noqa: PLC0415 - as above

    broker = CeleryBroker.from_url(settings.broker)
    app = Celery("chunkspool-doctor", broker=broker.url, set_as_current=False)
    options: dict[str, Any] = dict(broker.transport_options)
    if broker.is_redis:
        options |= {**_OWN_KEYS, "socket_timeout": seconds, "socket_connect_timeout": seconds, "max_retries": 1}
    app.conf.update(
        broker_use_ssl=broker.use_ssl,
        broker_transport_options=options,
        broker_connection_timeout=seconds,
        broker_connection_retry=False,
        accept_content=["json"],
    )
    return app


def _read_offers(client: redis.Redis, queues: Sequence[str]) -> Mapping[str, Sequence[str]]:
    clock: Any = client.time()
    now_ms = int(clock[0]) * 1000
    return {queue: _offering(client, queue, now_ms) for queue in queues}


def _offering(client: redis.Redis, queue: str, now_ms: int) -> Sequence[str]:
    found: Any = client.hgetall(QueueKeys(queue).slots)
    offers = {as_text(name): as_text(value).split() for name, value in found.items()}
    return sorted(name for name, words in offers.items() if int(words[-1]) > now_ms)
