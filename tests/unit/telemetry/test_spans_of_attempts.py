"""The span of an attempt tells of failures that are some, and of a wait in the queue that has ended."""

from __future__ import annotations

from contextlib import suppress

import pytest
from support.telemetry.recording_tracer import RecordingTracer

from chunkspool.errors import NotClaimed
from chunkspool.store.queries import StoredTrace
from chunkspool.tracing.spans import trace_attempt

ENQUEUE = f"00-{'a' * 32}-{'b' * 16}-01"
STORED = StoredTrace(ENQUEUE, "", "chunkspool", 100.0, 103.0)


@pytest.mark.parametrize("outcome", ["ended", "held", "stopped"])
def test_what_cannot_be_claimed_has_not_failed(outcome: str) -> None:
    """Somebody else has it, or has ended it: neither the attempt nor its claim is an error, and no wait is told."""
    tracer = RecordingTracer()
    with (
        suppress(NotClaimed),
        trace_attempt(tracer, "t", "c", "g", STORED) as attempt,
        attempt.claim(),
    ):
        raise NotClaimed("g", outcome)
    assert [(span.name, span.failed) for span in tracer.spans] == [("attempt", None), ("claim", None)]


@pytest.mark.parametrize(("number", "waits"), [(1, [3.0]), (2, [])])
def test_the_wait_in_the_queue_ends_with_the_first_attempt(number: int, waits: list[float]) -> None:
    """It is told once, below the enqueue."""
    tracer = RecordingTracer()
    with trace_attempt(tracer, "t", "c", "g", STORED) as attempt:
        attempt.note_claimed(number)
    told = [span for span in tracer.spans if span.name == "wait in queue"]
    assert [span.seconds for span in told] == waits
    assert all(span.parent and span.parent.encode() == ENQUEUE for span in told)
