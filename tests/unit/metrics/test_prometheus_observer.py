"""Each observation moves the metrics that docs/how-to/run/metrics.md has for it, and no label is without a bound."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from support.metrics.scrape import Scraped, read

from chunkspool.metrics.definitions import CODES, DEFINITIONS, NO_CODE, OTHER
from chunkspool.metrics.exposition import Exposition, has_token
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.observer import (
    AttemptBegan,
    AttemptFenced,
    FirstChunkWritten,
    Flushed,
    GenerationEnded,
    GenerationQueued,
    HubReconnected,
    LimitHit,
    MessageRedelivered,
    Observation,
    ReaderOverflowed,
    ReadersChanged,
    Replayed,
    Retried,
    RunningChanged,
    TokensUsed,
    guard,
)
from chunkspool.settings import Settings
from chunkspool.tasks.providers.failures import Code

PROJECT = Path(__file__).parents[3]
PAGE = (PROJECT / "docs" / "how-to" / "run" / "metrics.md").read_text()
TOKEN = "t" * 32
MOVES: list[tuple[Observation, dict[str, float]]] = [
    (GenerationQueued("batch"), {'generations_queued_total{priority="batch"}': 1}),
    (AttemptBegan(1, 0.3), {'attempts_total{number="1"}': 1, "queue_wait_seconds_sum": 0.3}),
    (AttemptBegan(2), {'attempts_total{number="2"}': 1, "queue_wait_seconds_count": 0}),
    (AttemptBegan(7), {'attempts_total{number="3+"}': 1}),
    (AttemptFenced(), {"fences_total": 1}),
    (
        GenerationEnded("completed", None, 2.0, None, 30.0),
        {
            'generations_ended_total{state="completed",code="none"}': 1,
            'generation_seconds_sum{state="completed"}': 2,
            "tokens_per_second_sum": 30,
            "stop_seconds_count": 0,
        },
    ),
    (
        GenerationEnded("stopped", None, None, 0.5),
        {
            'generations_ended_total{state="stopped",code="none"}': 1,
            "stop_seconds_sum": 0.5,
            "tokens_per_second_count": 0,
        },
    ),
    (GenerationEnded("failed", "lost"), {'generations_ended_total{state="failed",code="lost"}': 1}),
    (GenerationEnded("failed", "the user's words"), {'generations_ended_total{state="failed",code="other"}': 1}),
    (GenerationEnded("failed", "none"), {'generations_ended_total{state="failed",code="none"}': 1}),
    (FirstChunkWritten(0.2), {"first_chunk_seconds_sum": 0.2}),
    (
        Flushed(0.01, {100: 2, 200: 1}, (0.1, 0.2)),
        {
            "flush_seconds_count": 1,
            "flush_events_sum": 3,
            "event_bytes_sum": 400,
            "event_bytes_count": 3,
            'event_bytes_bucket{le="128.0"}': 2,
            'event_bytes_bucket{le="256.0"}': 3,
            "chunk_gap_seconds_count": 2,
        },
    ),
    (Flushed(0.01, {70: 500}, ()), {"event_bytes_count": 500, "event_bytes_sum": 35000}),
    (Flushed(0.01, {}, ()), {"flush_seconds_count": 0}),
    (
        TokensUsed(5, 7, 2, 1),
        {
            'tokens_total{kind="input"}': 5,
            'tokens_total{kind="output"}': 7,
            'tokens_total{kind="reasoning"}': 2,
            'tokens_total{kind="cached"}': 1,
        },
    ),
    (MessageRedelivered(), {"redeliveries_total": 1}),
    (Retried("model"), {'retries_total{of="model"}': 1}),
    (LimitHit("queued"), {'limits_hit_total{limit="queued"}': 1}),
    (LimitHit("tenant-x"), {'limits_hit_total{limit="other"}': 1}),
    (Replayed("expired"), {'replays_total{result="expired"}': 1}),
    (ReadersChanged(3), {"live_readers": 3}),
    (ReaderOverflowed(), {"slow_readers_total": 1}),
    (HubReconnected(), {"hub_reconnects_total": 1}),
    (RunningChanged(2), {"running_generations": 2}),
]


def exposed(observer: PrometheusObserver) -> Scraped:
    """Return what a scrape would read."""
    observer.put()
    return read(generate_latest(observer.registry).decode())


@pytest.mark.parametrize(("observation", "moved"), MOVES, ids=lambda one: type(one).__name__)
def test_an_observation_moves_its_metrics(observation: Observation, moved: dict[str, float]) -> None:
    """These, by so much."""
    observer = PrometheusObserver.with_own_registry()
    observer.observe(observation)
    seen = exposed(observer)
    for name, value in moved.items():
        labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
        assert seen.value(name.partition("{")[0], **labels) == pytest.approx(value), name


def test_every_kind_of_observation_is_counted() -> None:
    """The list above has one of each."""
    assert {type(one) for one, _ in MOVES} == set(Observation.__args__)


def test_a_label_has_only_the_values_of_its_definition() -> None:
    """Whatever was observed, by whichever provider."""
    observer = PrometheusObserver.with_own_registry()
    for observation, _ in MOVES:
        observer.observe(observation)
    allowed = {
        name: {*values, OTHER} for definition in DEFINITIONS for name, values in definition.labels for _ in values
    }
    for name, labels in exposed(observer).samples:
        for label, value in labels:
            assert label == "le" or value in allowed[label], name


def test_all_codes_of_failures_are_known() -> None:
    """Those of providers, and those that docs/reference/events.md has."""
    table = (PROJECT / "docs" / "reference" / "events.md").read_text().partition("| code | meaning |")[2]
    own = re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("| `")))
    assert own
    assert {*own, *(code.value for code in Code)} <= set(CODES)
    assert CODES[0] == NO_CODE


def test_series_begin_at_zero() -> None:
    """Of a series that appears with its first event, Prometheus would miss that event."""
    seen = exposed(PrometheusObserver.with_own_registry())
    assert seen.value("generations_ended_total", state="failed", code="lost") == 0
    assert seen.value("limits_hit_total", limit="owner_streams") == 0


def test_every_metric_is_documented_with_its_labels() -> None:
    """docs/how-to/run/metrics.md has a row for each."""
    rows = dict(re.findall(r"^\| `(chunkspool_\w+)` \|(.*)$", PAGE, re.MULTILINE))
    for definition in DEFINITIONS:
        for label in definition.label_names:
            assert f"`{label}`" in rows[definition.full_name]


def test_threads_lose_no_count() -> None:
    """Many observe at once."""
    observer = PrometheusObserver.with_own_registry()

    def count() -> None:
        for _ in range(500):
            observer.observe(Flushed(0.1, {10: 1}, (0.1,)))
            observer.observe(MessageRedelivered())

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert exposed(observer).value("event_bytes_count") == exposed(observer).value("redeliveries_total") == 2000


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (None, False),
        ("", False),
        (TOKEN, False),
        (f"Bearer {TOKEN}", True),
        (f"bearer  {TOKEN} ", True),
        (f"Bearer {TOKEN}x", False),
        (f"Basic {TOKEN}", False),
        ("Bearer ü", False),
    ],
)
def test_only_the_token_is_admitted(header: str | None, *, admitted: bool) -> None:
    """As a bearer token, and whole; without a token everybody is."""
    settings = Settings.checked({"metrics_token": TOKEN})
    assert has_token(header, settings.metrics.metrics_token) is admitted
    assert has_token(header, None)


def test_an_exposition_is_found_in_a_spools_observer() -> None:
    """Through what guards the library from it; another observer has none."""
    settings = Settings.checked({})
    observer = PrometheusObserver.with_own_registry()
    found = Exposition.find(guard(observer), settings)
    assert found is not None
    content_type, body = found.render("")
    assert content_type.startswith("text/plain")
    assert b"chunkspool_fences_total 0.0" in body
    assert found.render("application/openmetrics-text; version=1.0.0")[0].startswith("application/openmetrics-text")

    class Another:
        def observe(self, _observation: Observation) -> None:
            """Do nothing."""

    assert Exposition.find(guard(Another()), settings) is None


def test_prometheus_client_is_loaded_only_for_metrics() -> None:
    """Not by the library, the web app, or a worker's modules."""
    code = (
        "import sys, chunkspool, chunkspool.web, chunkspool.web.serve, chunkspool.worker, chunkspool.metrics;"
        "from chunkspool import AsyncSpool; from chunkspool.web import create_app, allow_all;"
        "create_app(AsyncSpool.from_env(), allow_all);"
        "assert not any(name.startswith('prometheus_client') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)  # noqa: S603 - our own code
