"""Judge a run: the checker on every chat, a cause for each new attempt, and how fast generations recovered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from end_to_end.chaos.faults import Fault, Loss, UnexpectedExit
from end_to_end.chaos.neighbour import NeighbourReport, find_disturbed
from end_to_end.chaos.plan import FaultKind
from end_to_end.chaos.traffic import Question, TrafficReport
from support.checker.check import check
from support.checker.observations import EnqueuedGeneration, Observations
from support.checker.raw_log import ENDINGS, RawChat, ReadableEntry, generations_of
from support.checker.violations import Rule, Violation
from support.models.paced_model import ModelCall
from support.models.paced_model_process import output_of

SHOWN = 3
MS = 5
"""Apparent difference of two processes' clocks on one machine, in truncated ms."""
AFTER_ITS_CLAIM = 3000
"""Ms within which an attempt calls its model, on a busy machine."""
JUST_AFTER = 20
"""Ms within which an event that was in flight at the fault may still arrive."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """A generation hit by a fault, and the seconds until its next event."""

    kind: FaultKind
    generation_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Silence:
    """The longest time without an event in a generation, and the event before it."""

    seconds: float
    generation_id: str
    after: str


@dataclass(frozen=True, slots=True)
class DeploymentSeen:
    """What was seen of one deployment: by its people, in its chats, and in them each time before Redis forgot."""

    report: TrafficReport
    chats: Mapping[str, RawChat]
    earlier: tuple[Mapping[str, RawChat], ...] = ()


@dataclass(frozen=True, slots=True)
class RunSeen:
    """Everything that was seen of a run."""

    deployments: tuple[DeploymentSeen, ...]
    calls: tuple[ModelCall, ...]
    faults: tuple[Fault, ...]
    losses: tuple[Loss, ...] = ()
    neighbour: NeighbourReport = field(default_factory=NeighbourReport)
    unexpected_exits: tuple[UnexpectedExit, ...] = ()
    serves: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """The queue and the deployment's database that each worker serves."""


@dataclass(slots=True)
class Verdict:
    """The result. `attempts` counts starts, `endings` counts by type."""

    violations: list[Violation] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    silences: list[Silence] = field(default_factory=list)
    generations: int = 0
    events: int = 0
    attempts: int = 0
    restarted: int = 0
    endings: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def judge(seen: RunSeen) -> Verdict:
    """Judge the run."""
    verdict = Verdict()
    calls_of_prompt: dict[str, list[ModelCall]] = defaultdict(list)
    for call in seen.calls:
        calls_of_prompt[call.prompt].append(call)
    for db, deployment in enumerate(seen.deployments):
        _judge_deployment(verdict, deployment, calls_of_prompt, seen)
        verdict.violations += find_strangers(db, deployment.report.questions, calls_of_prompt, seen.serves)
    verdict.silences = sorted(verdict.silences, key=lambda silence: silence.seconds)[-SHOWN:]
    verdict.violations += find_disturbed(seen.neighbour, seen.faults)
    verdict.violations += [
        Violation(Rule.OPEN, call.prompt, detail=f"call {call.number} of {call.key}")
        for call in seen.calls
        if not call.ended
    ]
    verdict.violations += [
        Violation(Rule.DIED, one.worker, detail=f"code {one.code}:\n{one.log}") for one in seen.unexpected_exits
    ]
    return verdict


def _judge_deployment(
    verdict: Verdict, deployment: DeploymentSeen, calls_of_prompt: Mapping[str, Sequence[ModelCall]], seen: RunSeen
) -> None:
    report = deployment.report
    questions_of: dict[str, list[Question]] = defaultdict(list)
    for question in report.questions:
        questions_of[question.plan.chat].append(question)
    for name, chat in deployment.chats.items():
        questions = questions_of[name]
        calls_of = {one.generation_id: calls_of_prompt.get(one.plan.name, ()) for one in questions}
        asked = tuple(
            one
            for question in questions
            for one in expectations_of(question, calls_of_prompt.get(question.plan.name, ()), seen.losses)
        )
        earlier = tuple(chats[name] for chats in deployment.earlier)
        verdict.violations += check(chat, Observations(asked, report.readings.get(name, ()), earlier))
        verdict.violations += [
            Violation(Rule.LOST, name, detail=f"{question.plan.name} could not be enqueued")
            for question in questions
            if not question.generation_id
        ]
        verdict.violations += find_forgotten_stops(name, questions, seen.losses)
        for generation, lines in generations_of(chat).items():
            own = calls_of.get(generation, ())
            verdict.violations += find_uncaused_attempts(name, generation, lines, own, seen.faults)
            verdict.recoveries += find_recoveries(generation, lines, own, seen.faults)
            _count_generation(verdict, name, lines)
        verdict.events += len(chat.entries)


def expectations_of(
    question: Question, calls: Sequence[ModelCall], losses: Sequence[Loss] = ()
) -> Iterator[EnqueuedGeneration]:
    """Yield what the checker is to expect of a question's generations."""
    forgot_calls = any(_ran_in(call, loss) for call in calls for loss in losses)
    if question.generation_id:
        may_fail = {"enqueue_failed"} if question.store_failed else set()
        yield EnqueuedGeneration(
            question.generation_id,
            tuple(output_of(call) for call in calls if not call.refused),
            stopped_by=frozenset({"user"} if question.plan.stop_after is not None else ()),
            stop_accepted=question.stop in {"stopped", "stopping"} and not _is_lost(question.stopped_at, losses),
            # A producer that finds its events gone ends its generation.
            may_fail=frozenset(may_fail | ({"store_unavailable"} if forgot_calls else set())),
            may_be_gone=_is_lost(question.asked_at, losses),
            forgot_calls=forgot_calls,
        )
    for generation in set(question.failed_ids) - {question.generation_id}:
        gone = bool(losses)  # nobody noted when it failed
        yield EnqueuedGeneration(generation, (), may_fail=frozenset({"enqueue_failed"}), may_be_gone=gone)


def _is_lost(at: int, losses: Sequence[Loss]) -> bool:
    return any(loss.covers(at) for loss in losses)


def _ran_in(call: ModelCall, loss: Loss) -> bool:
    # An attempt that Redis forgot may call its model a moment after its claim.
    end = call.finished or call.closed
    return call.began <= loss.back + AFTER_ITS_CLAIM and (end is None or end >= loss.copied)


def find_strangers(
    db: int,
    questions: Sequence[Question],
    calls_of_prompt: Mapping[str, Sequence[ModelCall]],
    serves: Mapping[str, tuple[str, int]],
) -> Iterator[Violation]:
    """Yield the calls of workers that do not serve their question's queue and deployment."""
    for question in questions:
        for call in calls_of_prompt.get(question.plan.name, ()):
            own = serves.get(call.key, (question.plan.queue, db))
            if own != (question.plan.queue, db):
                detail = f"{call.key} ran {question.plan.name} of {question.plan.queue} in database {db}"
                yield Violation(Rule.STRANGER, question.plan.chat, question.generation_id, detail=detail)


def find_forgotten_stops(chat: str, questions: Sequence[Question], losses: Sequence[Loss]) -> Iterator[Violation]:
    """Yield the stops for which there was no generation, although Redis had not forgotten it."""
    for question in questions:
        if question.stop == "gone" and not _is_lost(question.asked_at, losses):
            yield Violation(Rule.STOP_IGNORED, chat, question.generation_id, detail="it was not found")


def find_uncaused_attempts(
    chat: str, generation_id: str, lines: Sequence[ReadableEntry], calls: Sequence[ModelCall], faults: Sequence[Fault]
) -> Iterator[Violation]:
    """Yield new attempts without a fault in the previous one, as far as its worker is known."""
    starts = [line for line in lines if line.type == "generation.started"]
    for before, start in pairwise(starts):
        if before.event.get("attempt") == start.event.get("attempt"):
            continue  # it fell back from continuing to restarting
        workers = {call.key for call in calls if before.at - MS <= call.began <= start.at}
        causes = [fault for fault in faults if fault.began <= start.at and fault.ended >= before.at - MS]
        if not any(not fault.worker or not workers or fault.worker in workers for fault in causes):
            ran = ", ".join(sorted(workers)) or "nobody"
            detail = f"attempt {start.event.get('attempt')}; the one before ran for {start.at - before.at} ms on {ran}"
            yield Violation(Rule.UNCAUSED, chat, generation_id, start.seq, detail)


def find_recoveries(
    generation_id: str, lines: Sequence[ReadableEntry], calls: Sequence[ModelCall], faults: Sequence[Fault]
) -> Iterator[Recovery]:
    """Yield how long each fault silenced a generation that it had hit in mid-answer."""
    ended = next((line.at for line in lines if line.type in ENDINGS), None)
    for fault in faults:
        hit = [moment for call in calls if (moment := _time_of_hit(call, fault)) is not None]
        if not hit or (ended is not None and ended <= hit[0] + JUST_AFTER):
            continue
        # An event in flight when the victim died is not a sign of life.
        quiet = max(hit[0], 0 if fault.kind in {FaultKind.PAUSE, FaultKind.CUT} else fault.ended) + JUST_AFTER
        following = next((line.at for line in lines if line.at > quiet), None)
        if following is not None:
            yield Recovery(fault.kind, generation_id, (following - hit[0]) / 1000)


def _time_of_hit(call: ModelCall, fault: Fault) -> int | None:
    """Return when the fault hit the call, if the call was running on that worker."""
    if fault.worker not in {"", call.key}:
        return None
    if fault.kind in {FaultKind.KILL_CHILD, FaultKind.TERMINATE}:
        # Only generations that lose their model call are hit, not everything on the worker.
        lost = call.closed is not None and fault.began - MS <= call.closed <= fault.ended + 1000
        return call.closed if lost else None
    end = call.finished or call.closed
    return fault.began if call.began <= fault.began and (end is None or end >= fault.began) else None


def _count_generation(verdict: Verdict, chat: str, lines: Sequence[ReadableEntry]) -> None:
    for line, following in pairwise(lines):
        seconds = (following.at - line.at) / 1000
        verdict.silences.append(Silence(seconds, str(line.event["generation"]), f"{line.type} in {chat}"))
    starts = sum(line.type == "generation.started" for line in lines)
    verdict.generations += 1
    verdict.attempts += starts
    verdict.restarted += starts > 1
    verdict.endings[lines[-1].type] += 1


def seconds_by_kind(found: Sequence[Recovery]) -> Mapping[FaultKind, list[float]]:
    """Return the seconds for each kind of fault, sorted."""
    seconds: dict[FaultKind, list[float]] = defaultdict(list)
    for one in found:
        seconds[one.kind].append(one.seconds)
    return {kind: sorted(seconds[kind]) for kind in FaultKind if seconds[kind]}
