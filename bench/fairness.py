"""`make bench`, fairness: how long one tenant's question waits for a worker while another tenant's backlog does.

`python -m bench.fairness`; exit code 1 if it misses its target. The unit is a slot's time: how long one answer takes.
"""

from __future__ import annotations

import statistics
import sys
import time

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.worker import start_worker
from chunkspool import Settings, Spool

SLOTS = 4
ANSWER_SECONDS = 0.5
BACKLOGS = (0, 10, 100, 1000)
ASKED = 7
MOST_TURNS = 1.2
"""One slot's time, and a fifth of it for the claim, the ending and a busy machine."""
_SCRIPT = {"script": [{"text": "a"}, {"wait": ANSWER_SECONDS}, {"text": "b"}]}


def measure(environment: Environment) -> list[Figure]:
    """Measure the wait behind each backlog."""
    figures = []
    with start_worker(environment, "threads", SLOTS, {"provider": "scripted"}):
        for backlog in BACKLOGS:
            waits = _wait_behind(environment, backlog)
            turns = statistics.median(waits) / ANSWER_SECONDS
            shown = f"{statistics.median(waits) * 1000:.0f} ms, longest {max(waits) * 1000:.0f}"
            what = f"B's wait behind {backlog:,} of A on {SLOTS} slots, median of {ASKED}"
            figures.append(at_most(what, turns, MOST_TURNS, " slot times", shown))
    return figures


def _wait_behind(environment: Environment, backlog: int) -> list[float]:
    """Return how many seconds each of B's questions waited, one after the other."""
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
        a, b = (spool.for_tenant(f"{name}-{environment.new_name()}") for name in ("a", "b"))
        asked = [a.enqueue(f"a-{n}", "x", params=_SCRIPT) for n in range(backlog)]
        if asked:
            _wait_until_started(a, asked[0].chat_id)
        waits = []
        for n in range(ASKED):
            began = time.monotonic()
            b.enqueue(f"b-{n}", "x", params=_SCRIPT)
            _wait_until_started(b, f"b-{n}")
            waits.append(time.monotonic() - began)
            _wait_until_idle(b, f"b-{n}")
        for one in asked:
            a.stop(one.chat_id)
        for one in asked:
            _wait_until_idle(a, one.chat_id)
    return waits


def _wait_until_started(spool: Spool, chat_id: str) -> None:
    with spool.subscribe(chat_id) as entries:
        next(entry for entry in entries if entry.type == "generation.started")


def _wait_until_idle(spool: Spool, chat_id: str) -> None:
    with spool.subscribe(chat_id) as entries:
        for _ in entries:
            pass


MEASUREMENTS: Measurements = {"fairness": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
