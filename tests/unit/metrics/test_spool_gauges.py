"""The gauges of `Spool.stats`: the contract's names, no failed scrape, no scrape that hangs, and few questions."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from chunkspool.errors import StoreUnavailable
from chunkspool.metrics.spool_gauges import SpoolGauges
from chunkspool.outcomes import OutcomeLag
from chunkspool.policy import Policy
from chunkspool.results import Stats, TenantMemory

STATS = Stats(
    at=0,
    queue="chunkspool",
    queued={"interactive": 3, "batch": 1},
    running=2,
    oldest_queued=1.5,
    oldest_by_priority={"batch": 1.5},
    generations={"waits": 3, "sent": 1, "runs": 2},
    chats=9,
    tenants=2,
    limits=Policy(),
    memory=TenantMemory({"acme": 100, "other": 7}, 30, 4),
    outcomes=(OutcomeLag("acme", "billing", 4, 2, 1.5), OutcomeLag("acme", "gone", set_aside=1, lost=7)),
    used_memory=1000,
    max_memory=5000,
)


def scrape(collector: SpoolGauges) -> dict[str, float]:
    """Return the samples of a scrape."""
    registry = CollectorRegistry()
    registry.register(collector)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (one.rsplit(" ", 1) for one in lines if not one.startswith("#"))}


def test_every_gauge_is_there() -> None:
    """By its name and labels; a tenant that is called as the rest is counted with the rest."""
    assert scrape(SpoolGauges(lambda: STATS)) == {
        "chunkspool_spool_up": 1,
        'chunkspool_queued{priority="interactive"}': 3,
        'chunkspool_queued{priority="batch"}': 1,
        "chunkspool_running": 2,
        'chunkspool_oldest_queued_seconds{priority="interactive"}': 0,
        'chunkspool_oldest_queued_seconds{priority="batch"}': 1.5,
        "chunkspool_chats": 9,
        'chunkspool_outcomes_lag{group="billing",tenant="acme"}': 6,
        'chunkspool_outcomes_lag{group="gone",tenant="acme"}': 0,
        'chunkspool_outcomes_oldest_seconds{group="billing",tenant="acme"}': 1.5,
        'chunkspool_outcomes_oldest_seconds{group="gone",tenant="acme"}': 0,
        'chunkspool_outcomes_lost{group="billing",tenant="acme"}': 0,
        'chunkspool_outcomes_lost{group="gone",tenant="acme"}': 7,
        'chunkspool_redis_memory_bytes{tenant="acme"}': 100,
        'chunkspool_redis_memory_bytes{tenant="other"}': 37,
        "chunkspool_redis_used_memory_bytes": 1000,
        "chunkspool_redis_max_memory_bytes": 5000,
    }


def test_what_is_not_known_is_left_out() -> None:
    """It is not 0."""
    found = scrape(SpoolGauges(lambda: replace(STATS, memory=None, used_memory=None, max_memory=None)))
    assert not [name for name in found if "redis" in name]
    assert found["chunkspool_spool_up"] == 1


def test_redis_is_asked_once_for_many_scrapes() -> None:
    """Within ten seconds, or as many as are said; then again."""
    asked = list[float]()

    def read() -> Stats:
        asked.append(time.monotonic())
        return STATS

    kept = SpoolGauges(read)
    for _ in range(5):
        scrape(kept)
    assert len(asked) == 1
    short = SpoolGauges(read, kept_seconds=0)
    scrape(short)
    scrape(short)
    assert len(asked) == 3


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")])
def test_an_error_fails_no_scrape(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """The gauges are absent, `chunkspool_spool_up` is 0, and the log says why, once."""

    def read() -> Stats:
        raise error

    collector = SpoolGauges(read, kept_seconds=0)
    with caplog.at_level(logging.WARNING):
        assert scrape(collector) == {"chunkspool_spool_up": 0}
        assert scrape(collector) == {"chunkspool_spool_up": 0}
    assert [record.getMessage() for record in caplog.records] == [f"the metrics lack what Redis would tell: {error}"]


def silent() -> tuple[Callable[[], Stats], list[int], threading.Event]:
    """Return a question that is not answered before the event, and how often it was asked."""
    asked, answered = list[int](), threading.Event()

    def read() -> Stats:
        asked.append(1)
        answered.wait(30)
        return STATS

    return read, asked, answered


def test_silence_hangs_no_scrape() -> None:
    """It goes on without an answer; nobody asks again meanwhile, and the late answer is the next scrape's."""
    read, asked, answered = silent()
    collector = SpoolGauges(read, patience=0.05)
    before = time.monotonic()
    assert scrape(collector) == {"chunkspool_spool_up": 0}
    assert scrape(collector) == {"chunkspool_spool_up": 0}
    assert time.monotonic() - before < 5
    assert asked == [1]
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "chunkspool-stats":
            thread.join(30)
    assert scrape(collector)["chunkspool_running"] == 2
    assert asked == [1]


def test_it_asks_nothing_before_a_scrape() -> None:
    """To register it connects to nothing, and names that are there twice are noticed."""

    def read() -> Stats:
        raise AssertionError("it was asked")

    registry = CollectorRegistry()
    registry.register(SpoolGauges(read))
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(SpoolGauges(read))
