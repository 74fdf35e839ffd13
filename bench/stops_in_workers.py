"""How long a stop takes through real workers, from the request to what reader and model see of it, by API and Flower.

`python -m bench.stops_in_workers`. The model is silent all the while; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import itertools
import os
import queue
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from celery import Celery

from bench.harness.environment import Ground
from bench.harness.report import Line, at_most
from bench.harness.run import Figures, run
from bench.processes.silent_model import MODEL, SilentModel
from chunkspool import Generation, Settings, Spool
from chunkspool.settings import variable_of
from demo.ports import LOOPBACK, free_port, is_taken
from demo.process import Process

STOPS = 100
LIMIT = 250.0
PATIENCE = 60.0
ROOT = Path(__file__).parent.parent
CELERY = (sys.executable, "-m", "celery", "-A", "worker.app")
SLOTS = {"threads": 50, "prefork": 4}
"""All but one are taken by other silent generations meanwhile."""

Stop = Callable[[Generation], object]


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs: a worker, a Flower and a silent model."""

    spool: Spool
    model: SilentModel
    flower: str

    def by_api(self, asked: Generation) -> None:
        """Ask as a web app does."""
        self.spool.stop(asked.chat_id, asked.generation_id)

    def by_flower(self, asked: Generation) -> None:
        """Ask as Flower's button does."""
        with urllib.request.urlopen(f"{self.flower}/api/task/revoke/{asked.generation_id}", b"", PATIENCE) as reply:  # noqa: S310 - http, on loopback
            reply.read()


def measured(pool: str, ground: Ground) -> list[Line]:
    """Stop generations one by one, by the API and by Flower in turns, each under the eyes of a reader."""
    ways: dict[str, list[tuple[float, float]]] = {"API": [], "Flower": []}
    names = map("-".join, zip(itertools.repeat(pool), map(str, itertools.count()), strict=False))
    with _stage(pool, ground) as stage:
        others = [_silent(stage, next(names)) for _ in range(SLOTS[pool] - 1)]
        for _ in range(STOPS):
            ways["API"].append(_stopped(stage, next(names), stage.by_api))
            ways["Flower"].append(_stopped(stage, next(names), stage.by_flower))
        for asked, seen in others:
            stage.by_api(asked)
            seen.get(timeout=PATIENCE)
    return [
        _line(f"stop on {pool}, {way}, until {who} it", [took[place] for took in waits])
        for way, waits in ways.items()
        for place, who in enumerate(("the reader has", "the model's connection is closed by"))
    ]


def _line(what: str, waits: Sequence[float]) -> Line:
    ordered = sorted(waits)
    half, most = ordered[STOPS // 2], ordered[STOPS * 99 // 100 - 1]
    return at_most(f"{what}, p99 of {STOPS}", most, LIMIT, " ms", f"p50 {half:.1f} ms, longest {ordered[-1]:.1f} ms")


def _stopped(stage: Stage, name: str, stop: Stop) -> tuple[float, float]:
    """Return the milliseconds from asking for the stop to the reader's event, and to the close of the model's call."""
    asked, seen = _silent(stage, name)
    # The reader now follows live: what it has not yet seen can only come through its subscription.
    time.sleep(0.02)
    began = time.perf_counter()
    stop(asked)
    kind, at = seen.get(timeout=PATIENCE)
    if kind != "generation.stopped":
        raise RuntimeError(f"the reader saw {kind} instead of the stop")
    return (at - began) * 1000, (stage.model.left(name) - began) * 1000


def _silent(stage: Stage, name: str) -> tuple[Generation, queue.Queue[tuple[str, float]]]:
    """Start a generation and its reader; return when the model's one word is there."""
    asked = stage.spool.enqueue(name, name)
    seen: queue.Queue[tuple[str, float]] = queue.Queue()
    threading.Thread(target=_read, args=(stage.spool, asked, seen), daemon=True).start()
    while seen.get(timeout=PATIENCE)[0] != "text.delta":
        pass
    return asked, seen


def _read(spool: Spool, asked: Generation, seen: queue.Queue[tuple[str, float]]) -> None:
    with spool.subscribe(asked.chat_id, asked.after, until=asked.generation_id) as entries:
        for entry in entries:
            seen.put((entry.type, time.perf_counter()))


@contextmanager
def _stage(pool: str, ground: Ground) -> Iterator[Stage]:
    port, node = free_port(), f"{pool}@localhost"
    with ExitStack() as up:
        model = up.enter_context(SilentModel())
        own = {"redis_url": ground.url, "model": MODEL, "openai_base_url": model.base_url, "drain_grace": "5"}
        environment = {**os.environ, **{variable_of(key): value for key, value in own.items()}}
        # On loopback, for the minute that this takes.
        environment["FLOWER_UNAUTHENTICATED_API"] = "true"
        logs = ground.folder / "logs"
        worker = (*CELERY, "worker", "-P", pool, "-c", str(SLOTS[pool]), "-n", node, "--loglevel=WARNING")
        flower = (*CELERY, "flower", f"--address={LOOPBACK}", f"--port={port}")
        processes = [
            Process.start(name, command, logs, env=environment, cwd=ROOT)
            for name, command in ((f"worker-{pool}", worker), (f"flower-{pool}", flower))
        ]
        for process in processes:
            up.callback(process.terminate)
        processes[0].wait_until(partial(_pongs, ground.url, node), PATIENCE)
        processes[1].wait_until(partial(is_taken, port), PATIENCE)
        spool = up.enter_context(Spool.from_settings(Settings.checked({"redis_url": ground.url})))
        yield Stage(spool, model, f"http://{LOOPBACK}:{port}")


def _pongs(broker: str, node: str) -> bool:
    with Celery("stops", broker=broker, set_as_current=False) as app:
        return bool(app.control.ping(destination=[node], timeout=0.2))


FIGURES: Figures = {pool: partial(measured, pool) for pool in SLOTS}

if __name__ == "__main__":
    sys.exit(run(FIGURES, __doc__))
