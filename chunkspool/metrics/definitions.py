"""Every metric that a process counts: its name, its kind, its labels with all their values, its buckets. Data only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from chunkspool.observer import ReplayResult, RetryOf
from chunkspool.policy import LIMITS
from chunkspool.states import PRIORITIES, EndState

OTHER: Final = "other"
"""What a label says instead of a value that is not listed here: no label is without a bound."""
NO_CODE: Final = "none"
"""The code of a generation that did not fail."""

CODES: Final = (
    NO_CODE,
    # chunkspool's own
    "cancelled",
    "chat_full",
    "deadline",
    "enqueue_failed",
    "event_too_large",
    "expired",
    "first_token_timeout",
    "idle_timeout",
    "internal_error",
    "keepalive_timeout",
    "lost",
    "store_unavailable",
    "too_many_attempts",
    # the providers'
    "agent_error",
    "agent_limit",
    "authentication",
    "context_length_exceeded",
    "invalid_request",
    "malformed_response",
    "model_not_found",
    "not_a_stream",
    "provider_error",
    "provider_timeout",
    "provider_unavailable",
    "provider_unreachable",
    "provider_untrusted",
    "quota_exhausted",
    "rate_limited",
    "refused",
    "truncated",
)
"""The codes of failures that are documented; a provider or task of your own may have any."""

_STATES: Final[tuple[str, ...]] = get_args(EndState)
_RETRIED: Final[tuple[str, ...]] = get_args(RetryOf)
_RESULTS: Final[tuple[str, ...]] = get_args(ReplayResult)
_SHORT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric. Its full name has `chunkspool_` before it, and a counter's `_total` behind it."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    meaning: str
    labels: tuple[tuple[str, tuple[str, ...]], ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name by which Prometheus knows it."""
        return f"chunkspool_{self.name}{'_total' if self.kind == 'counter' else ''}"

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of its labels."""
        return tuple(name for name, _ in self.labels)


GENERATIONS_QUEUED: Final = Definition(
    "generations_queued", "counter", "Generations that were made.", (("priority", PRIORITIES),)
)
GENERATIONS_ENDED: Final = Definition(
    "generations_ended",
    "counter",
    "Generations whose ending was written; code is none unless they failed.",
    (("state", _STATES), ("code", CODES)),
)
ATTEMPTS: Final = Definition("attempts", "counter", "Attempts that have begun.", (("number", ("1", "2", "3+")),))
FENCES: Final = Definition("fences", "counter", "Attempts that lost their generation to another one.")
REDELIVERIES: Final = Definition("redeliveries", "counter", "Messages of generations that the broker delivered again.")
RETRIES: Final = Definition("retries", "counter", "Calls that failed and were made again.", (("of", _RETRIED),))
TOKENS: Final = Definition(
    "tokens",
    "counter",
    "Tokens, as the providers count them; cached ones are also input, reasoning ones also output.",
    (("kind", ("input", "output", "reasoning", "cached")),),
)
REPLAYS: Final = Definition(
    "replays", "counter", "Readers that asked for a chat from a cursor on.", (("result", _RESULTS),)
)
SLOW_READERS: Final = Definition("slow_readers", "counter", "Readers that fell behind and went on in the log.")
HUB_RECONNECTS: Final = Definition("hub_reconnects", "counter", "Connections of readers that were lost and made again.")
LIMITS_HIT: Final = Definition(
    "limits_hit", "counter", "Requests, streams and answers that met a limit.", (("limit", LIMITS),)
)

QUEUE_WAIT: Final = Definition(
    "queue_wait_seconds",
    "histogram",
    "From the enqueue, or the end of what it waited for in its chat, until the first attempt began.",
    buckets=(*_SHORT, 60.0, 300.0, 1800.0),
)
FIRST_CHUNK: Final = Definition(
    "first_chunk_seconds",
    "histogram",
    "From the enqueue until the first chunk was in the log.",
    buckets=(*_SHORT, 60.0, 120.0, 300.0),
)
GENERATION: Final = Definition(
    "generation_seconds",
    "histogram",
    "From the enqueue until the ending was in the log.",
    (("state", _STATES),),
    (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
)
TOKENS_PER_SECOND: Final = Definition(
    "tokens_per_second",
    "histogram",
    "Output tokens of an answer by the time from its first chunk to its ending.",
    buckets=(1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 400.0, 1000.0),
)
CHUNK_GAP: Final = Definition(
    "chunk_gap_seconds",
    "histogram",
    "Between two chunks of an attempt in the log.",
    buckets=(0.001, *_SHORT, 60.0),
)
EVENT_BYTES: Final = Definition(
    "event_bytes",
    "histogram",
    "Size of each event that was written, encoded.",
    buckets=(64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0),
)
FLUSH: Final = Definition(
    "flush_seconds",
    "histogram",
    "Round trip of a pipeline that writes to the logs.",
    buckets=(0.0005, 0.001, 0.0025, *_SHORT[:-2]),
)
FLUSH_EVENTS: Final = Definition(
    "flush_events",
    "histogram",
    "Events of a pipeline that writes to the logs.",
    buckets=(1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0),
)
STOP: Final = Definition(
    "stop_seconds", "histogram", "From the request to stop until the ending was in the log.", buckets=_SHORT
)

LIVE_READERS: Final = Definition("live_readers", "gauge", "Readers that follow a chat live.")
RUNNING_GENERATIONS: Final = Definition("running_generations", "gauge", "Attempts that run in this worker.")

DEFINITIONS: Final = (
    GENERATIONS_QUEUED,
    GENERATIONS_ENDED,
    ATTEMPTS,
    FENCES,
    REDELIVERIES,
    RETRIES,
    TOKENS,
    REPLAYS,
    SLOW_READERS,
    HUB_RECONNECTS,
    LIMITS_HIT,
    QUEUE_WAIT,
    FIRST_CHUNK,
    GENERATION,
    TOKENS_PER_SECOND,
    CHUNK_GAP,
    EVENT_BYTES,
    FLUSH,
    FLUSH_EVENTS,
    STOP,
    LIVE_READERS,
    RUNNING_GENERATIONS,
)
