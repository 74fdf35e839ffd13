"""What a run will do, all drawn from one seed: who asks and stops when, who reads, what breaks when."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum


class FaultKind(StrEnum):
    """What can break."""

    KILL = "kill -9 of a worker"
    KILL_CHILD = "kill -9 of a prefork child"
    PAUSE = "SIGSTOP of a worker"
    TERMINATE = "SIGTERM of a worker"
    CUT = "connections cut"
    RESTART = "Redis restarted"
    FAILOVER = "failover to the replica"
    DEMOTION = "primary demoted for a while"
    MISCONF = "writes refused (MISCONF)"
    COPY = "a copy is kept"
    ROLLBACK = "the older copy comes back"
    CLOCK = "Redis's clock stepped"


WEIGHTS = {FaultKind.KILL: 6, FaultKind.KILL_CHILD: 2, FaultKind.PAUSE: 4, FaultKind.TERMINATE: 4}
QUEUES = ("chunkspool", "chunkspool-second")
QUIET = 0.3
"""The part of a run in which nothing happens to Redis."""
NEAR = 40.0
"""Seconds from the first to the last question of a chat, at most."""
BACK = (1.0, 8.0)
"""Seconds by which the copy that comes back is older."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a run. `seconds` is how long requests are made and faults injected.

    `neighbours`: generations of the second deployment, in chats of the same names. `faults`: those of workers.
    `of_redis`: how often each fault of Redis happens. `readers`: per chat and deployment.
    """

    generations: int
    neighbours: int
    chats: int
    seconds: float
    faults: int
    of_redis: Mapping[FaultKind, int]
    readers: int = 3
    stopped: float = 0.1

    def with_generations(self, generations: int, seconds: float | None = None) -> Scale:
        """Return a run of so many generations, at the same pace unless `seconds` says for how long they are asked.

        Faults are as frequent as here.
        """
        by = generations / self.generations
        lasts = self.seconds * by if seconds is None else seconds
        often = lasts / self.seconds
        return replace(
            self,
            generations=generations,
            neighbours=max(1, round(self.neighbours * by)),
            chats=max(1, round(self.chats * by)),
            seconds=lasts,
            faults=max(1, round(self.faults * often)),
            of_redis={kind: max(1, round(number * often)) for kind, number in self.of_redis.items()},
        )


LONG = Scale(
    generations=1000,
    neighbours=150,
    chats=200,
    seconds=200.0,
    faults=60,
    of_redis={
        FaultKind.CUT: 8,
        FaultKind.RESTART: 3,
        FaultKind.FAILOVER: 4,
        FaultKind.DEMOTION: 2,
        FaultKind.MISCONF: 2,
        FaultKind.ROLLBACK: 2,
        FaultKind.CLOCK: 4,
    },
)
SHORT = Scale(
    generations=60,
    neighbours=15,
    chats=15,
    seconds=32.0,
    faults=8,
    of_redis={
        FaultKind.CUT: 1,
        FaultKind.RESTART: 1,
        FaultKind.FAILOVER: 1,
        FaultKind.DEMOTION: 1,
        FaultKind.MISCONF: 1,
        FaultKind.ROLLBACK: 1,
        FaultKind.CLOCK: 1,
    },
)


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
    queue: str = QUEUES[0]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """One fault. `draw` (0 to 1) selects the worker or connections; `seconds`: how long it is paused, down, refused."""

    at: float
    kind: FaultKind
    draw: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run. `deployments`: what is asked in each, by the number of its database; `generations`: of the first."""

    seed: int
    scale: Scale
    deployments: tuple[tuple[GenerationPlan, ...], ...]
    faults: tuple[FaultPlan, ...]

    @property
    def generations(self) -> tuple[GenerationPlan, ...]:
        """What is asked in the first deployment."""
        return self.deployments[0]

    def rng(self, *names: object) -> random.Random:
        """Return a random generator for these names, independent of the order of calls."""
        return random.Random("/".join(map(str, (self.seed, *names))))  # noqa: S311 - repeatable, not a secret


def draw_plan(seed: int, scale: Scale) -> Plan:
    """Draw a run: the same seed gives the same plan."""
    rng = random.Random(seed)  # noqa: S311 - as above
    ours = _draw_generations(rng, scale, scale.generations, "question", QUEUES)
    theirs = _draw_generations(rng, scale, scale.neighbours, "neighbour", QUEUES[:1])
    faults = [
        *(_draw_fault(rng, rng.uniform(0.08, 1) * scale.seconds, _draw_kind(rng)) for _ in range(scale.faults)),
        *_draw_faults_of_redis(rng, scale),
    ]
    return Plan(seed, scale, (ours, theirs), tuple(sorted(faults, key=lambda fault: fault.at)))


def _draw_generations(
    rng: random.Random, scale: Scale, number: int, name: str, queues: Sequence[str]
) -> tuple[GenerationPlan, ...]:
    # A chat's questions are close enough together that some of its answers overlap.
    near = min(0.4 * scale.seconds, NEAR)
    starts = [rng.uniform(0, scale.seconds - near) for _ in range(scale.chats)]
    stopped = set(rng.sample(range(number), round(number * scale.stopped)))
    made = []
    for n in range(number):
        chat = n % scale.chats
        at = min(starts[chat] + rng.uniform(0, near) * (n >= scale.chats), scale.seconds)
        pieces, pace = rng.randint(15, 50), rng.uniform(0.04, 0.12)
        stop_after = rng.uniform(0, pieces * pace * 1.2) if n in stopped else None
        refuses, queue = rng.random() < 0.3, rng.choice(queues)
        made.append(GenerationPlan(f"{name}-{n}", f"chat-{chat}", at, pieces, pace, stop_after, refuses, queue))
    return tuple(sorted(made, key=lambda generation: generation.at))


def _draw_kind(rng: random.Random) -> FaultKind:
    return rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]


def _draw_faults_of_redis(rng: random.Random, scale: Scale) -> Iterator[FaultPlan]:
    """Yield one fault after the other, so that each meets a server that has got over the one before.

    In the middle nothing happens to Redis: only there one can tell who is at fault when another app's task runs twice.
    """
    kinds = [kind for kind, number in scale.of_redis.items() for _ in range(number)]
    rng.shuffle(kinds)
    for n, kind in enumerate(kinds):
        share = (n + rng.uniform(0.4, 0.9)) / len(kinds) * (1 - QUIET)
        at = (share if share < (1 - QUIET) / 2 else share + QUIET) * scale.seconds
        yield _draw_fault(rng, at, kind)
        if kind is FaultKind.ROLLBACK:
            yield _draw_fault(rng, max(0.0, at - rng.uniform(*BACK)), FaultKind.COPY)


def _draw_fault(rng: random.Random, at: float, kind: FaultKind) -> FaultPlan:
    return FaultPlan(at, kind, rng.random(), rng.uniform(0.5, 9.0 if kind is FaultKind.PAUSE else 3.0))
