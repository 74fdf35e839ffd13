"""Figure 3: what `out.text()` costs the model's loop while the flusher writes."""

from __future__ import annotations

import statistics
import time

from bench.harness.environment import TEXT, Environment
from bench.harness.report import Figure, at_most
from chunkspool import Spool
from chunkspool.settings import Settings

RUNS, CALLS = 7, 50_000
LIMIT = 10.0


def measure(environment: Environment) -> list[Figure]:
    """Time the calls in a `with` block while its flusher thread runs."""
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
        took = statistics.median(_time_calls(environment, spool) for _ in range(RUNS))
    return [at_most("out.text(20 characters)", took, LIMIT, " µs", f"median of {RUNS} runs of {CALLS:,} calls")]


def _time_calls(environment: Environment, spool: Spool) -> float:
    chat = environment.new_queued_chat()
    with spool.produce(chat.keys.chat_id, chat.generation_id) as out:
        began = time.perf_counter()
        for _ in range(CALLS):
            out.text(TEXT)
        return (time.perf_counter() - began) / CALLS * 1e6
