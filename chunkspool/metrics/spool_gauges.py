"""Gauges of what `Spool.stats` tells: asked for at a scrape, kept for some seconds, and never waited for too long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from chunkspool.metrics.definitions import OTHER
from chunkspool.results import Stats

_LOG = logging.getLogger(__name__)
KEPT_SECONDS: Final = 10.0
"""How long an answer is given again: many may scrape, each process is asked, and Redis has other things to do."""
PATIENCE: Final = 2.0
"""Seconds after which a scrape goes on without an answer; Prometheus itself waits for 10."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was read, None where it could not be, and until when it counts (monotonic seconds)."""

    stats: Stats | None
    until: float


class SpoolGauges(Collector):
    """A collector for prometheus_client. No scrape fails or hangs by it: without an answer, `chunkspool_spool_up` is 0.

    An answer that comes late is kept for the next scrape; meanwhile Redis is not asked again.
    """

    def __init__(
        self, read: Callable[[], Stats], *, kept_seconds: float = KEPT_SECONDS, patience: float = PATIENCE
    ) -> None:
        """`read` is the `stats` of a `Spool`, which stays its owner's to close. Nothing is asked before a scrape."""
        self._read = read
        self._kept_seconds = kept_seconds
        self._patience = patience
        self._lock = threading.Lock()
        self._answer: _Answer | None = None
        self._asking: threading.Thread | None = None
        self._has_failed = False

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the names: a registry would otherwise ask Redis when it is told of this collector."""
        return list(_families())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges: all of them, or that there is no answer."""
        stats = self._ask()
        up = GaugeMetricFamily("chunkspool_spool_up", "Whether Redis tells how things stand: 1, or 0.")
        up.add_metric([], 0.0 if stats is None else 1.0)
        yield up
        if stats is not None:
            yield from gauges_of(stats)

    def _ask(self) -> Stats | None:
        with self._lock:
            if self._answer is not None and time.monotonic() < self._answer.until:
                return self._answer.stats
            if self._asking is None or not self._asking.is_alive():
                self._answer = None
                self._asking = threading.Thread(target=self._run, name="chunkspool-stats", daemon=True)
                self._asking.start()
            asking = self._asking
        asking.join(self._patience)
        answer = self._answer
        return answer.stats if answer is not None else None

    def _run(self) -> None:
        stats: Stats | None = None
        try:
            stats = self._read()
            self._has_failed = False
        except Exception as error:  # noqa: BLE001 - whatever it is, the process goes on, and so do its other metrics
            if not self._has_failed:
                self._has_failed = True
                _LOG.warning("the metrics lack what Redis would tell: %s", error)
        self._answer = _Answer(stats, time.monotonic() + self._kept_seconds)


def _families() -> tuple[GaugeMetricFamily, ...]:
    return (
        GaugeMetricFamily("chunkspool_queued", "Generations that no worker has claimed.", labels=["priority"]),
        GaugeMetricFamily("chunkspool_running", "Generations of the queue that a worker has claimed."),
        GaugeMetricFamily(
            "chunkspool_oldest_queued_seconds",
            "For how long the oldest that is queued has been; or 0.",
            labels=["priority"],
        ),
        GaugeMetricFamily("chunkspool_chats", "Chats that have a log."),
        GaugeMetricFamily(
            "chunkspool_redis_memory_bytes", "About what the chats of a tenant take in Redis.", labels=["tenant"]
        ),
        GaugeMetricFamily(
            "chunkspool_outcomes_lag",
            "Outcomes that a group has still to acknowledge.",
            labels=["tenant", "group"],
        ),
        GaugeMetricFamily(
            "chunkspool_outcomes_oldest_seconds",
            "The age of the oldest of them; or 0.",
            labels=["tenant", "group"],
        ),
        GaugeMetricFamily(
            "chunkspool_outcomes_lost",
            "Outcomes that a group has lost which was set aside, because it was too slow; or 0.",
            labels=["tenant", "group"],
        ),
        GaugeMetricFamily("chunkspool_redis_used_memory_bytes", "What the Redis server uses."),
        GaugeMetricFamily("chunkspool_redis_max_memory_bytes", "What it may use; 0: as much as there is."),
    )


def gauges_of(stats: Stats) -> Iterator[GaugeMetricFamily]:
    """Yield them with their values; what is not known is left out."""
    queued, running, oldest, chats, memory, lag, age, lost, used, most = _families()
    for priority, number in stats.queued.items():
        queued.add_metric([priority], number)
        oldest.add_metric([priority], stats.oldest_by_priority.get(priority, 0.0))
    running.add_metric([], stats.running)
    chats.add_metric([], stats.chats)
    for group in stats.outcomes:
        labels = [group.tenant, group.group]
        lag.add_metric(labels, group.entries)
        age.add_metric(labels, group.oldest_seconds)
        lost.add_metric(labels, group.lost)
    yield from (queued, running, oldest, chats, lag, age, lost)
    if stats.memory is not None:
        # Somebody's tenant may be called as the others are.
        named = {**stats.memory.tenants, OTHER: stats.memory.tenants.get(OTHER, 0) + stats.memory.others}
        for tenant, taken in named.items():
            memory.add_metric([tenant], taken)
        yield memory
    for family, value in ((used, stats.used_memory), (most, stats.max_memory)):
        if value is not None:
            family.add_metric([], value)
            yield family
