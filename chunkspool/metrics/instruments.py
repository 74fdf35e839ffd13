"""The observer for Prometheus: each observation moves the instruments that it concerns. Loads `prometheus_client`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final, Self

from chunkspool.errors import ExtraMissing
from chunkspool.metrics import definitions as defined
from chunkspool.metrics import process_files
from chunkspool.metrics.definitions import CODES, DEFINITIONS, NO_CODE, OTHER, Definition
from chunkspool.metrics.tally import Tally
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
)
from chunkspool.policy import LIMITS

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ModuleNotFoundError as missing:
    raise ExtraMissing("metrics", "prometheus-client") from missing

GATHER: Final = 0.1
"""Seconds for which what is flushed is gathered."""
_GATHERED: Final = (defined.FLUSH, defined.FLUSH_EVENTS, defined.EVENT_BYTES, defined.CHUNK_GAP)
_LAST_NUMBER: Final = 3
"""Attempts from this one on share a label."""


class PrometheusObserver:
    """Give it to a spool (`observer=`), or to `chunkspool.worker.equip`. A process needs one: all its spools share it.

    Its metrics belong to `registry`, prometheus_client's own unless given, and are exposed by whatever exposes that.
    With `PROMETHEUS_MULTIPROC_DIR` they are counted in files, one process beside the other.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        """Register the metrics; a second time in the same registry is an error of prometheus_client's.

        Raises `SettingsError` if they are to be counted in files, in a folder that cannot be written.
        """
        process_files.check_folder()
        self.registry = registry
        made = {one: _make(one, registry) for one in DEFINITIONS}
        self._counters: dict[Definition, Counter] = {k: v for k, v in made.items() if isinstance(v, Counter)}
        self._histograms: dict[Definition, Histogram] = {k: v for k, v in made.items() if isinstance(v, Histogram)}
        self._gauges: dict[Definition, Gauge] = {k: v for k, v in made.items() if isinstance(v, Gauge)}
        self._begin_at_zero()
        self._tallies = [Tally(self._histograms[one]) for one in _GATHERED]
        self._put_at = 0.0
        self._handlers: dict[type, Callable[[Any], None]] = {
            GenerationQueued: self._queued,
            AttemptBegan: self._began,
            AttemptFenced: self._adder_of(defined.FENCES),
            GenerationEnded: self._ended,
            FirstChunkWritten: self._first_chunk,
            Flushed: self._flushed,
            TokensUsed: self._tokens,
            MessageRedelivered: self._adder_of(defined.REDELIVERIES),
            Retried: self._retried,
            LimitHit: self._limit_hit,
            Replayed: self._replayed,
            ReadersChanged: self._readers_changed,
            ReaderOverflowed: self._adder_of(defined.SLOW_READERS),
            HubReconnected: self._adder_of(defined.HUB_RECONNECTS),
            RunningChanged: self._running_changed,
        }
        # prometheus_client has locks that a forked child would find taken for ever. So nothing is counted in the moment
        # of a fork.
        self._lock = threading.Lock()
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._begin_in_child
        )

    @classmethod
    def with_own_registry(cls) -> Self:
        """Return one whose metrics are no other's: for a process that exposes nothing else."""
        return cls(CollectorRegistry())

    def observe(self, observation: Observation) -> None:
        """Count it."""
        with self._lock:
            self._handlers[type(observation)](observation)

    def put(self) -> None:
        """Put what is gathered into the instruments. Else it is there after `GATHER` seconds, or a heartbeat."""
        with self._lock:
            self._put()

    def _put(self) -> None:
        self._put_at = time.monotonic()
        for tally in self._tallies:
            tally.put()

    def _begin_in_child(self) -> None:
        for tally in self._tallies:
            tally.forget()
        self._lock.release()

    def _begin_at_zero(self) -> None:
        """Show every series from the start: of one that appears with its first event, Prometheus misses that event."""
        for definition, counter in self._counters.items():
            if definition is defined.GENERATIONS_ENDED:
                for state, codes in (("completed", [NO_CODE]), ("stopped", [NO_CODE]), ("failed", [*CODES[1:], OTHER])):
                    for code in codes:
                        counter.labels(state, code)
            elif definition.labels:
                for value in definition.labels[0][1]:
                    counter.labels(value)
        for state in defined.GENERATION.labels[0][1]:
            self._histograms[defined.GENERATION].labels(state)
        for gauge in self._gauges.values():
            # In a file that a process of the same number has left, there may be another value.
            gauge.set(0)

    def _adder_of(self, definition: Definition) -> Callable[[object], None]:
        counter = self._counters[definition]
        return lambda _: counter.inc()

    def _queued(self, it: GenerationQueued) -> None:
        self._counters[defined.GENERATIONS_QUEUED].labels(it.priority).inc()

    def _began(self, it: AttemptBegan) -> None:
        number = str(it.number) if it.number < _LAST_NUMBER else f"{_LAST_NUMBER}+"
        self._counters[defined.ATTEMPTS].labels(number).inc()
        if it.waited is not None:
            self._histograms[defined.QUEUE_WAIT].observe(it.waited)

    def _ended(self, it: GenerationEnded) -> None:
        code = NO_CODE if it.state != "failed" else bounded(it.code or OTHER, CODES)
        self._counters[defined.GENERATIONS_ENDED].labels(it.state, code).inc()
        if it.seconds is not None:
            self._histograms[defined.GENERATION].labels(it.state).observe(it.seconds)
        if it.stop_seconds is not None:
            self._histograms[defined.STOP].observe(it.stop_seconds)
        if it.output_per_second is not None:
            self._histograms[defined.TOKENS_PER_SECOND].observe(it.output_per_second)

    def _first_chunk(self, it: FirstChunkWritten) -> None:
        self._histograms[defined.FIRST_CHUNK].observe(it.seconds)

    def _flushed(self, it: Flushed) -> None:
        if it.sizes:
            seconds, events, sizes, gaps = self._tallies
            seconds.add(it.seconds)
            events.add(sum(it.sizes.values()))
            sizes.add_all(it.sizes)
            gaps.add_each(it.gaps)
        if not it.sizes or time.monotonic() - self._put_at >= GATHER:
            self._put()

    def _tokens(self, it: TokensUsed) -> None:
        tokens = self._counters[defined.TOKENS]
        for kind, count in (
            ("input", it.input),
            ("output", it.output),
            ("reasoning", it.reasoning),
            ("cached", it.cached),
        ):
            if count:
                tokens.labels(kind).inc(count)

    def _retried(self, it: Retried) -> None:
        self._counters[defined.RETRIES].labels(it.of).inc()

    def _limit_hit(self, it: LimitHit) -> None:
        self._counters[defined.LIMITS_HIT].labels(bounded(it.limit, LIMITS)).inc()

    def _replayed(self, it: Replayed) -> None:
        self._counters[defined.REPLAYS].labels(it.result).inc()

    def _readers_changed(self, it: ReadersChanged) -> None:
        self._gauges[defined.LIVE_READERS].inc(it.by)

    def _running_changed(self, it: RunningChanged) -> None:
        self._gauges[defined.RUNNING_GENERATIONS].inc(it.by)
        self._put()


def bounded(value: str, known: Collection[str]) -> str:
    """Return a label's value: one of `known`, or "other"."""
    return value if value in known else OTHER


def _make(definition: Definition, registry: CollectorRegistry) -> Counter | Histogram | Gauge:
    name, names = f"chunkspool_{definition.name}", definition.label_names
    match definition.kind:
        case "counter":
            return Counter(name, definition.meaning, names, registry=registry)
        case "histogram":
            return Histogram(name, definition.meaning, names, registry=registry, buckets=definition.buckets)
        case "gauge":
            return Gauge(name, definition.meaning, names, registry=registry, multiprocess_mode="livesum")
