"""`make bench`, the first chunk: from enqueue to the reader's first word, compared with a bare Celery round trip.

`python -m bench.first_chunk`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import statistics
import sys
import time

from celery import Celery

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.worker import start_worker
from bench.processes import echo_task
from bench.processes.paced_model import MODEL, start_paced_model
from chunkspool import Settings, Spool

RUNS, WARM = 200, 20
MOST = 1.5
QUEUE = Settings().worker.queue
PATIENCE = 30


def measure(environment: Environment) -> list[Figure]:
    """Alternate between both, in one worker."""
    with start_paced_model(environment) as model:
        settings = {"model": MODEL, "openai_base_url": model.base_url, "imports": echo_task.__name__}
        with (
            start_worker(environment, "threads", 4, settings),
            Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool,
            Celery("bench", broker=environment.url, set_as_current=False) as app,
        ):
            rounds = [
                (_time_first_chunk(environment, spool), _time_echo(environment, app)) for _ in range(WARM + RUNS)
            ][WARM:]
    ours, bare = (statistics.median(times) for times in zip(*rounds, strict=True))
    longest = sorted(first for first, _ in rounds)[RUNS * 99 // 100]
    return [
        at_most(
            "enqueue → first chunk / a bare Celery round trip",
            ours / bare,
            MOST,
            " x",
            f"{ours:.2f} / {bare:.2f} ms, medians of {RUNS}; p99 {longest:.1f} ms",
        )
    ]


def _time_first_chunk(environment: Environment, spool: Spool) -> float:
    """Return the ms from an enqueue until a reader has the first word of a model that answers at once."""
    began = time.perf_counter()
    asked = spool.enqueue(environment.new_name(), "Tell me a story.")
    with spool.subscribe(asked.chat_id, asked.after, until=asked.generation_id) as entries:
        first = next(time.perf_counter() for entry in entries if entry.type == "text.delta")
        for _ in entries:  # until its end: the next one is to find an idle worker
            pass
    return (first - began) * 1000


def _time_echo(environment: Environment, app: Celery) -> float:
    """Return the ms from sending a task until its word is there."""
    key = environment.new_name()
    began = time.perf_counter()
    app.send_task(echo_task.NAME, [key], queue=QUEUE)
    if environment.client.blpop([key], timeout=PATIENCE) is None:
        raise RuntimeError(f"no task answered within {PATIENCE} seconds")
    return (time.perf_counter() - began) * 1000


MEASUREMENTS: Measurements = {"first-chunk": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
