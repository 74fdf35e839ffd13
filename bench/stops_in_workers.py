"""How long a stop takes in real workers, from the request until reader and model see it, by API and by Flower.

`python -m bench.stops_in_workers`. The model is silent throughout; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import itertools
import queue
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from bench.harness.worker import CELERY, ROOT, environment_of, start_worker
from bench.processes.silent_model import MODEL, SilentModel
from chunkspool import Generation, Settings, Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

STOPS = 100
LIMIT = 250.0
PATIENCE = 60.0
SLOTS = {"threads": 50, "prefork": 4}
"""All but one are taken by other silent generations."""

RequestStop = Callable[[Generation], object]


@dataclass(frozen=True, slots=True)
class WorkerStack:
    """What runs: a worker, a Flower and a silent model."""

    spool: Spool
    model: SilentModel
    flower: str

    def stop_by_api(self, generation: Generation) -> None:
        """Request the stop like a web app."""
        self.spool.stop(generation.chat_id, generation.generation_id)

    def stop_by_flower(self, generation: Generation) -> None:
        """Request the stop like Flower's button."""
        url = f"{self.flower}/api/task/revoke/{generation.generation_id}"
        with urllib.request.urlopen(url, b"", PATIENCE) as reply:  # noqa: S310 - http, on loopback
            reply.read()


def measure(pool: str, environment: Environment) -> list[Figure]:
    """Stop generations one by one, alternately by the API and by Flower, each watched by a reader."""
    waits_by_way: dict[str, list[tuple[float, float]]] = {"API": [], "Flower": []}
    names = map("-".join, zip(itertools.repeat(pool), map(str, itertools.count()), strict=False))
    with _start_stack(pool, environment) as stack:
        others = [_start_silent_generation(stack, next(names)) for _ in range(SLOTS[pool] - 1)]
        for _ in range(STOPS):
            waits_by_way["API"].append(_time_stop(stack, next(names), stack.stop_by_api))
            waits_by_way["Flower"].append(_time_stop(stack, next(names), stack.stop_by_flower))
        for generation, seen in others:
            stack.stop_by_api(generation)
            seen.get(timeout=PATIENCE)
    return [
        _figure_of(f"stop on {pool}, {way}, until {who} it", [pair[place] for pair in waits])
        for way, waits in waits_by_way.items()
        for place, who in enumerate(("the reader has", "the model's connection is closed by"))
    ]


def _figure_of(what: str, waits: Sequence[float]) -> Figure:
    ordered = sorted(waits)
    median, p99 = ordered[STOPS // 2], ordered[STOPS * 99 // 100 - 1]
    return at_most(f"{what}, p99 of {STOPS}", p99, LIMIT, " ms", f"p50 {median:.1f} ms, longest {ordered[-1]:.1f} ms")


def _time_stop(stack: WorkerStack, name: str, request_stop: RequestStop) -> tuple[float, float]:
    """Return the milliseconds from the request until the reader has the event, and until the model call is closed."""
    generation, seen = _start_silent_generation(stack, name)
    # The reader now follows live: further events can only arrive through its subscription.
    time.sleep(0.02)
    began = time.perf_counter()
    request_stop(generation)
    kind, at = seen.get(timeout=PATIENCE)
    if kind != "generation.stopped":
        raise RuntimeError(f"the reader saw {kind} instead of the stop")
    return (at - began) * 1000, (stack.model.wait_for_disconnect(name) - began) * 1000


def _start_silent_generation(stack: WorkerStack, name: str) -> tuple[Generation, queue.Queue[tuple[str, float]]]:
    """Start a generation and its reader; return once the model's one word is there."""
    generation = stack.spool.enqueue(name, name)
    seen: queue.Queue[tuple[str, float]] = queue.Queue()
    threading.Thread(target=_read, args=(stack.spool, generation, seen), daemon=True).start()
    while seen.get(timeout=PATIENCE)[0] != "text.delta":
        pass
    return generation, seen


def _read(spool: Spool, generation: Generation, seen: queue.Queue[tuple[str, float]]) -> None:
    with spool.subscribe(generation.chat_id, generation.after, until=generation.generation_id) as entries:
        for entry in entries:
            seen.put((entry.type, time.perf_counter()))


@contextmanager
def _start_stack(pool: str, environment: Environment) -> Iterator[WorkerStack]:
    port = free_port()
    with ExitStack() as resources:
        model = resources.enter_context(SilentModel())
        settings = {"model": MODEL, "openai_base_url": model.base_url}
        # Only on loopback, and only while this runs.
        variables = environment_of(environment, settings) | {"FLOWER_UNAUTHENTICATED_API": "true"}
        command = (*CELERY, "flower", f"--address={LOOPBACK}", f"--port={port}")
        flower = Process.start(f"flower-{pool}", command, environment.folder / "logs", env=variables, cwd=ROOT)
        resources.callback(flower.terminate)
        resources.enter_context(start_worker(environment, pool, SLOTS[pool], settings))
        flower.wait_until(partial(is_taken, port), PATIENCE)
        spool = resources.enter_context(Spool.from_settings(Settings.checked({"redis_url": environment.url})))
        yield WorkerStack(spool, model, f"http://{LOOPBACK}:{port}")


MEASUREMENTS: Measurements = {pool: partial(measure, pool) for pool in SLOTS}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
