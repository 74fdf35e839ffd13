"""Judge a run: the checker on every chat, a cause for each new attempt, and how fast generations recovered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from end_to_end.chaos.faults import Fault, UnexpectedExit
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


def judge(
    chats: Sequence[RawChat],
    report: TrafficReport,
    calls: Sequence[ModelCall],
    faults: Sequence[Fault],
    unexpected_exits: Sequence[UnexpectedExit] = (),
) -> Verdict:
    """Judge the run."""
    verdict = Verdict()
    calls_of_prompt: dict[str, list[ModelCall]] = defaultdict(list)
    for call in calls:
        calls_of_prompt[call.prompt].append(call)
    calls_of_generation = {
        question.generation_id: calls_of_prompt[question.plan.name]
        for question in report.questions
        if question.generation_id
    }
    for chat in chats:
        questions = [question for question in report.questions if question.plan.chat == chat.name]
        asked = tuple(
            one for question in questions for one in expectations_of(question, calls_of_prompt[question.plan.name])
        )
        verdict.violations += check(chat, Observations(asked, report.readings.get(chat.name, ())))
        verdict.violations += [
            Violation(Rule.LOST, chat.name, detail=f"{question.plan.name} could not be enqueued")
            for question in questions
            if not question.generation_id
        ]
        for generation, lines in generations_of(chat).items():
            own = calls_of_generation.get(generation, [])
            verdict.violations += find_uncaused_attempts(chat.name, generation, lines, own, faults)
            verdict.recoveries += find_recoveries(generation, lines, own, faults)
            _count_generation(verdict, chat.name, lines)
        verdict.events += len(chat.entries)
    verdict.silences = sorted(verdict.silences, key=lambda silence: silence.seconds)[-SHOWN:]
    verdict.violations += [
        Violation(Rule.OPEN, call.prompt, detail=f"call {call.number} of {call.key}")
        for call in calls
        if not call.ended
    ]
    verdict.violations += [
        Violation(Rule.DIED, one.worker, detail=f"code {one.code}:\n{one.log}") for one in unexpected_exits
    ]
    return verdict


def expectations_of(question: Question, calls: Sequence[ModelCall]) -> Iterator[EnqueuedGeneration]:
    """Yield what the checker is to expect of a question's generations."""
    if question.generation_id:
        yield EnqueuedGeneration(
            question.generation_id,
            tuple(output_of(call) for call in calls if not call.refused),
            stopped_by=frozenset({"user"} if question.plan.stop_after is not None else ()),
            stop_accepted=question.stop in {"stopped", "stopping"},
            may_fail=frozenset({"enqueue_failed"} if question.store_failed else ()),
        )
    for generation in set(question.failed_ids) - {question.generation_id}:
        yield EnqueuedGeneration(generation, (), may_fail=frozenset({"enqueue_failed"}))


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
        quiet = max(hit[0], fault.ended if fault.kind in {FaultKind.KILL, FaultKind.RESTART} else 0) + JUST_AFTER
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
