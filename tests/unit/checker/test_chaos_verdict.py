"""The chaos suite's judge: which attempts had a cause, which generations were hit, and what no run may show."""

from __future__ import annotations

import pytest
from end_to_end.chaos.faults import Fault, UnexpectedExit
from end_to_end.chaos.plan import LONG, SHORT, FaultKind, GenerationPlan, Scale, draw_plan
from end_to_end.chaos.traffic import Question, TrafficReport
from end_to_end.chaos.verdict import Verdict, judge
from support.checker.raw_log import RawChat
from support.checker.sample_log import call_text, chat_of, delta, ended, queued, started
from support.checker.violations import Rule
from support.models.paced_model import ModelCall

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
    calls: tuple[ModelCall, ...] = CALLS,
    unexpected_exits: tuple[UnexpectedExit, ...] = (),
) -> Verdict:
    """Judge the log."""
    return judge([chat], traffic_report(), calls, faults, unexpected_exits)


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
    assert Rule.LOST in rules_broken(judge([LOG], traffic_report(generation_id=""), CALLS, [KILLED]))


def test_an_acknowledged_stop_must_be_the_ending() -> None:
    """The stop's outcome is passed to the checker; a stop that came too late requires nothing."""
    assert rules_broken(judge([LOG], traffic_report(stop="stopping", stop_after=0.1), CALLS, [KILLED])) == {
        Rule.STOP_IGNORED
    }
    assert rules_broken(judge([LOG], traffic_report(stop="ended", stop_after=0.1), CALLS, [KILLED])) == set()


def test_enqueue_failed_is_allowed_only_after_a_failed_enqueue() -> None:
    """`enqueue_failed` is an expected ending only for a user whose enqueue raised."""
    chat = chat_of((queued("g"), ended("g", "failed", code="enqueue_failed", message="…")))
    assert rules_broken(judge([chat], traffic_report(store_failed=True), [], [])) == set()
    assert rules_broken(judge([chat], traffic_report(), [], [])) == {Rule.FAILED}


@pytest.mark.parametrize("scale", [SHORT, LONG])
def test_a_seed_determines_the_plan(scale: Scale) -> None:
    """The same seed draws the same run, of the requested size; another seed draws another run."""
    drawn = draw_plan(7, scale)
    assert drawn == draw_plan(7, scale)
    assert drawn != draw_plan(8, scale)
    assert len(drawn.generations) == scale.generations
    assert sum(one.stop_after is not None for one in drawn.generations) == round(scale.generations * scale.stopped)
    assert sum(fault.kind is FaultKind.RESTART for fault in drawn.faults) == scale.restarts
    assert len({one.chat for one in drawn.generations}) == scale.chats
    assert drawn.rng("a").random() == draw_plan(7, scale).rng("a").random() != drawn.rng("b").random()
