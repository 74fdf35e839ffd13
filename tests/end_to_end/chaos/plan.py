"""What a run will do, all drawn from one seed: who asks and stops when, who reads, what breaks when."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    """What can break."""

    KILL = "kill -9 of a worker"
    KILL_CHILD = "kill -9 of a prefork child"
    PAUSE = "SIGSTOP of a worker"
    TERMINATE = "SIGTERM of a worker"
    CUT = "connections cut"
    RESTART = "Redis restarted"


WEIGHTS = {FaultKind.KILL: 6, FaultKind.KILL_CHILD: 2, FaultKind.PAUSE: 4, FaultKind.TERMINATE: 4, FaultKind.CUT: 4}


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run. `seconds` is how long requests are made and faults injected."""

    generations: int
    chats: int
    seconds: float
    restarts: int
    faults: int
    readers: int = 3
    stopped: float = 0.1


LONG = Scale(generations=300, chats=60, seconds=130.0, restarts=3, faults=42)
SHORT = Scale(generations=60, chats=15, seconds=26.0, restarts=1, faults=9)


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """One answer: the model sends `pieces`, one every `pace` seconds. Times are seconds from the run's start."""

    name: str
    chat: str
    at: float
    pieces: int
    pace: float
    stop_after: float | None
    refuses: bool = False
    """Whether the model refuses to continue a text."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One fault. `draw` (0 to 1) selects the worker or connections; `seconds`: how long it is paused or down."""

    at: float
    kind: FaultKind
    draw: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run."""

    seed: int
    scale: Scale
    generations: tuple[GenerationPlan, ...]
    faults: tuple[FaultPlan, ...]

    def rng(self, *names: object) -> random.Random:
        """Return a random generator for these names, independent of the order of calls."""
        return random.Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - repeatable, not a secret


def draw_plan(seed: int, scale: Scale) -> Plan:
    """Draw a run: the same seed gives the same plan."""
    rng = random.Random(seed)  # noqa: S311 - as above
    generations = _draw_generations(rng, scale)
    restarts = [(n + rng.uniform(0.3, 0.9)) / scale.restarts * scale.seconds for n in range(scale.restarts)]
    faults = [
        *(_draw_fault(rng, rng.uniform(0.08, 1) * scale.seconds, _draw_kind(rng)) for _ in range(scale.faults)),
        *(_draw_fault(rng, at, FaultKind.RESTART) for at in restarts),
    ]
    return Plan(seed, scale, generations, tuple(sorted(faults, key=lambda fault: fault.at)))


def _draw_generations(rng: random.Random, scale: Scale) -> tuple[GenerationPlan, ...]:
    # A chat's questions are close enough together that some of its answers overlap.
    starts = [rng.uniform(0, 0.6) * scale.seconds for _ in range(scale.chats)]
    stopped = set(rng.sample(range(scale.generations), round(scale.generations * scale.stopped)))
    made = []
    for n in range(scale.generations):
        chat = n % scale.chats
        at = min(starts[chat] + rng.uniform(0, 0.4) * scale.seconds * (n >= scale.chats), scale.seconds)
        pieces, pace = rng.randint(15, 50), rng.uniform(0.04, 0.12)
        stop_after = rng.uniform(0, pieces * pace * 1.2) if n in stopped else None
        refuses = rng.random() < 0.3
        made.append(GenerationPlan(f"question-{n}", f"chat-{chat}", at, pieces, pace, stop_after, refuses))
    return tuple(sorted(made, key=lambda generation: generation.at))


def _draw_kind(rng: random.Random) -> FaultKind:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def _draw_fault(rng: random.Random, at: float, kind: FaultKind) -> FaultPlan:
    return FaultPlan(at, kind, rng.random(), rng.uniform(0.5, 9.0 if kind is FaultKind.PAUSE else 3.0))
