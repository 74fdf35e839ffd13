"""The chaos suite's judge: which attempts had a cause, which generations were hit, and what no run may show."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from end_to_end.chaos import planted
from end_to_end.chaos.clock import Step, with_real_times
from end_to_end.chaos.faults import Fault, Loss, UnexpectedExit
from end_to_end.chaos.neighbour import NeighbourReport, SentTask
from end_to_end.chaos.plan import LONG, QUEUES, SHORT, WEIGHTS, FaultKind, GenerationPlan, Scale, draw_plan
from end_to_end.chaos.traffic import Question, TrafficReport
from end_to_end.chaos.verdict import DeploymentSeen, RunSeen, Verdict, judge
from support.checker.raw_log import RawChat, RawEntry
from support.checker.sample_log import call_text, chat_of, delta, ended, queued, started
from support.checker.violations import Rule
from support.models.paced_model import ModelCall
from support.processes.nodes import PROJECT

# At 100 ms queued, at 200 attempt 1 on worker-1, at 300 text, at 400 attempt 2 on worker-2, …
LOG = chat_of(
    (
        queued("g"),
        started("g", 1),
        delta("g", 1, 0),
        started("g", 2),
        delta("g", 2, 0),
        delta("g", 2, 1),
        ended("g", "completed"),
    )
)
CALLS = (
    ModelCall(1, "worker-1", "question", "", 210, [call_text(1, 0), call_text(1, 1)], closed=320),
    ModelCall(2, "worker-2", "question", "", 410, [call_text(2, 0), call_text(2, 1)], finished=640),
)
KILLED = Fault(FaultKind.KILL, "worker-1", 310, 315)


def traffic_report(
    *, generation_id: str = "g", stop: str = "", stop_after: float | None = None, store_failed: bool = False
) -> TrafficReport:
    """Return what the one user saw."""
    question = GenerationPlan("question", LOG.name, 0, 2, 0.1, stop_after)
    return TrafficReport((Question(question, generation_id, store_failed=store_failed, stop=stop),), {}, 0)


def judge_log(
    *faults: Fault,
    chat: RawChat = LOG,
    earlier: tuple[RawChat, ...] = (),
    report: TrafficReport | None = None,
    calls: tuple[ModelCall, ...] = CALLS,
    **seen: Any,
) -> Verdict:
    """Judge the log."""
    before = tuple({one.name: one} for one in earlier)
    deployment = DeploymentSeen(report or traffic_report(), {chat.name: chat}, before)
    return judge(RunSeen((deployment,), calls, faults, **seen))


def rules_broken(verdict: Verdict) -> set[Rule]:
    """Return which rules were broken."""
    return {violation.rule for violation in verdict.violations}


def test_a_run_in_order_has_no_violation() -> None:
    """A worker was killed and the next attempt ran: it is counted and timed from the kill to the next start."""
    verdict = judge_log(KILLED)
    assert verdict.violations == []
    assert (verdict.generations, verdict.attempts, verdict.restarted, verdict.events) == (1, 2, 1, 7)
    assert dict(verdict.endings) == {"generation.completed": 1}
    (recovery,) = verdict.recoveries
    assert (recovery.kind, recovery.seconds) == (FaultKind.KILL, 0.09)
    assert verdict.silences[-1].seconds == 0.1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.KILL, "worker-2", 310, 315),
        Fault(FaultKind.KILL, "worker-1", 150, 190),
        Fault(FaultKind.PAUSE, "worker-1", 450, 600),
        Fault(FaultKind.RESTART, "", 500, 550),
    ],
    ids=["another worker's", "before the attempt", "after the next one", "after the next one, of all workers"],
)
def test_an_attempt_without_a_cause_is_found(fault: Fault) -> None:
    """A new attempt is a violation unless something happened to the worker that ran the previous one."""
    assert rules_broken(judge_log(fault)) == {Rule.UNCAUSED}


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.PAUSE, "worker-1", 100, 350),
        Fault(FaultKind.TERMINATE, "worker-1", 390, 700),
        Fault(FaultKind.CUT, "", 300, 300),
    ],
    ids=["paused before and after", "terminated, not yet exited", "cut for all"],
)
def test_a_cause_is_accepted(fault: Fault) -> None:
    """A fault is a cause if it overlaps the previous attempt, on its own worker or on all workers."""
    assert judge_log(fault).violations == []


def test_any_fault_explains_an_attempt_without_a_model_call() -> None:
    """An attempt that died before its model call cannot be traced to a worker."""
    chat = chat_of((queued("g"), started("g", 1), started("g", 2), delta("g", 2, 0, 1), ended("g", "completed")))
    calls = (ModelCall(2, "worker-2", "question", "", 310, [call_text(2, 0), call_text(2, 1)], finished=640),)
    assert judge_log(Fault(FaultKind.KILL, "worker-7", 250, 260), chat=chat, calls=calls).violations == []
    assert rules_broken(judge_log(chat=chat, calls=calls)) == {Rule.UNCAUSED}


def test_an_unclosed_model_call_is_found() -> None:
    """At the end no model may still be streaming."""
    still_open = (ModelCall(1, "worker-1", "question", "", 210, [call_text(1, 0)]), CALLS[1])
    assert rules_broken(judge_log(KILLED, calls=still_open)) == {Rule.OPEN}


def test_a_worker_that_exited_by_itself_is_found() -> None:
    """Nothing had killed it."""
    assert rules_broken(judge_log(KILLED, unexpected_exits=(UnexpectedExit("worker-1", 1, "Traceback …"),))) == {
        Rule.DIED
    }


def test_a_question_that_was_never_enqueued_is_found() -> None:
    """However often its user tried."""
    assert Rule.LOST in rules_broken(judge_log(KILLED, report=traffic_report(generation_id="")))


def test_an_acknowledged_stop_must_be_the_ending() -> None:
    """The stop's outcome is passed to the checker; a stop that came too late requires nothing."""
    assert rules_broken(judge_log(KILLED, report=traffic_report(stop="stopping", stop_after=0.1))) == {
        Rule.STOP_IGNORED
    }
    assert rules_broken(judge_log(KILLED, report=traffic_report(stop="ended", stop_after=0.1))) == set()


def test_enqueue_failed_is_allowed_only_after_a_failed_enqueue() -> None:
    """`enqueue_failed` is an expected ending only for a user whose enqueue raised."""
    chat = chat_of((queued("g"), ended("g", "failed", code="enqueue_failed", message="…")))
    assert rules_broken(judge_log(chat=chat, report=traffic_report(store_failed=True), calls=())) == set()
    assert rules_broken(judge_log(chat=chat, calls=())) == {Rule.FAILED}


LOSS = Loss(copied=420, ended=900, back=950, data=Path())
ROLLED_BACK = Fault(FaultKind.ROLLBACK, "", 900, 950)
GONE = chat_of(())


def test_what_redis_forgot_may_be_gone() -> None:
    """Whatever was asked, or stopped, after the copy; not what was asked before it."""
    late, early = (replace_question(asked_at=at, stop="stopping", stopped_at=at) for at in (500, 300))
    assert rules_broken(judge_log(chat=GONE, calls=(), earlier=(LOG,), losses=(LOSS,), report=late)) == set()
    assert rules_broken(judge_log(chat=GONE, calls=(), earlier=(LOG,), losses=(LOSS,), report=early)) == {Rule.LOST}
    assert rules_broken(judge_log(KILLED, losses=(LOSS,), report=late)) == set()
    assert rules_broken(judge_log(KILLED, losses=(LOSS,), report=early)) == {Rule.STOP_IGNORED}


def test_a_stop_that_finds_nothing_is_found() -> None:
    """Unless Redis has forgotten the generation."""
    late, early = (replace_question(asked_at=at, stop="gone", stopped_at=1000) for at in (500, 300))
    assert rules_broken(judge_log(KILLED, losses=(LOSS,), report=late)) == set()
    assert rules_broken(judge_log(KILLED, losses=(LOSS,), report=early)) == {Rule.STOP_IGNORED}


def test_an_attempt_that_redis_forgot_leaves_its_call_and_its_failure() -> None:
    """A call of that time needs no attempt, and a producer whose events are gone ends its generation."""
    chat = chat_of((queued("g"), started("g", 1), ended("g", "failed", code="store_unavailable", message="…")))
    assert rules_broken(judge_log(ROLLED_BACK, chat=chat, losses=(LOSS,))) == set()
    assert rules_broken(judge_log(ROLLED_BACK, chat=chat)) == {Rule.CALLS, Rule.FAILED}


def replace_question(**values: Any) -> TrafficReport:
    """Return what the one user saw, with other values."""
    (question,) = traffic_report(stop_after=0.1).questions
    return TrafficReport((replace(question, **values),), {}, 0)


SENT = (SentTask("quiet", 1_000), SentTask("hit", 100_000), SentTask("unfinished", 290_000))


def neighbour_report(*quiet: int, deaths: tuple[int, ...] = ()) -> NeighbourReport:
    """Return the other app's report; `quiet`: when its first task ran."""
    return NeighbourReport(SENT, deaths, {"quiet": quiet, "hit": [100_500, 111_000]}, 300_000)


def test_a_neighbours_task_that_did_not_run_once_is_found() -> None:
    """Not at all, or twice; also if a worker of ours was killed meanwhile."""
    of_redis = Fault(FaultKind.CUT, "", 105_000, 105_010)
    for runs in ((), (1_500, 12_000)):
        report = neighbour_report(*runs)
        assert rules_broken(judge_log(KILLED, of_redis, neighbour=report)) == {Rule.NEIGHBOUR}
    assert rules_broken(judge_log(KILLED, of_redis, neighbour=neighbour_report(1_500))) == set()


def test_a_neighbour_that_was_hit_is_not_judged() -> None:
    """What Celery itself does after a broken connection, or after its own death, is not ours."""
    of_redis = Fault(FaultKind.CUT, "", 105_000, 105_010)
    report = neighbour_report(deaths=(20_000,))
    assert rules_broken(judge_log(KILLED, of_redis, neighbour=report)) == set()
    assert [task.name for task, _ in neighbour_report(1_500).undisturbed([of_redis])] == ["quiet"]


@pytest.mark.parametrize("serves", [("other", 0), (QUEUES[0], 1)], ids=["queue", "deployment"])
def test_a_worker_that_runs_what_is_not_its_own_is_found(serves: tuple[str, int]) -> None:
    """Of another queue, or of another deployment."""
    own = (QUEUES[0], 0)
    assert rules_broken(judge_log(KILLED, serves={"worker-1": own, "worker-2": own})) == set()
    assert rules_broken(judge_log(KILLED, serves={"worker-1": own, "worker-2": serves})) == {Rule.STRANGER}


def test_times_of_a_stepped_clock_are_put_right() -> None:
    """Ahead, back behind the right time, and right again: each entry is given the time at which it was written."""
    steps = [Step(0, 0), Step(10_000, 5_400_000), Step(20_000, -5_400_000), Step(30_000, 0)]
    real = [1_000, 9_000, 11_000, 19_000, 21_000, 29_000, 31_000]
    shown = [1_000, 9_000, 5_411_000, 5_419_000, -5_379_000, -5_371_000, 31_000]
    entries = tuple(RawEntry(f"{n}-0", at, b"{}") for n, at in enumerate(shown, 1))
    assert [one.at for one in with_real_times(RawChat("chat", 7, entries), steps).entries] == real


@pytest.mark.parametrize("fault", planted.FAULTS, ids=[fault.what for fault in planted.FAULTS])
def test_a_fault_can_still_be_planted(fault: planted.PlantedFault, tmp_path: Path) -> None:
    """What `make chaos ARGS=--planted` replaces is in the code, once."""
    copy = tmp_path / fault.file
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(PROJECT / fault.file, copy)
    fault.plant(tmp_path)
    assert copy.read_text() != (PROJECT / fault.file).read_text()


@pytest.mark.parametrize("scale", [SHORT, LONG, LONG.with_generations(3000), LONG.with_generations(3000, 300)])
def test_a_seed_determines_the_plan(scale: Scale) -> None:
    """The same seed draws the same run, of the requested size; another seed draws another run."""
    drawn = draw_plan(7, scale)
    assert drawn == draw_plan(7, scale)
    assert drawn != draw_plan(8, scale)
    assert len(drawn.generations) == scale.generations
    assert sum(one.stop_after is not None for one in drawn.generations) == round(scale.generations * scale.stopped)
    assert {one.queue for one in drawn.generations} == set(QUEUES)
    drawn_kinds = Counter(fault.kind for fault in drawn.faults)
    assert {kind: drawn_kinds[kind] for kind in scale.of_redis} == scale.of_redis
    assert drawn_kinds[FaultKind.COPY] == drawn_kinds[FaultKind.ROLLBACK]
    assert sum(drawn_kinds[kind] for kind in WEIGHTS) == scale.faults
    assert len({one.chat for one in drawn.generations}) == scale.chats
    assert len(drawn.deployments[1]) == scale.neighbours
    assert {one.chat for one in drawn.deployments[1]} <= {one.chat for one in drawn.generations}
    assert drawn.rng("a").random() == draw_plan(7, scale).rng("a").random() != drawn.rng("b").random()
