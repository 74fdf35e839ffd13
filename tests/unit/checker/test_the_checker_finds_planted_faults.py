"""The chaos suite's checker: a valid log has no violation, and each planted fault is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.checker.check import check
from support.checker.observations import EnqueuedGeneration, ModelOutput, Observations, Reading
from support.checker.raw_log import RawChat, RawEntry
from support.checker.sample_log import (
    ENQUEUED,
    EVENTS,
    OBSERVATIONS,
    VALID_LOG,
    call_text,
    chat_of,
    delta,
    ended,
    queued,
    reading_of,
    started,
)
from support.checker.violations import Rule

PlantFault = Callable[[], tuple[RawChat, Observations]]
NO_READERS = Observations(ENQUEUED)


def with_events(change: Callable[[list[dict[str, Any]]], object]) -> PlantFault:
    """Return a log whose events were changed."""

    def plant() -> tuple[RawChat, Observations]:
        changed = list(EVENTS)
        change(changed)
        return chat_of(tuple(changed)), NO_READERS

    return plant


def with_entries(change: Callable[[list[RawEntry]], object], counter: int = len(EVENTS)) -> PlantFault:
    """Return a log whose stored entries were changed."""

    def plant() -> tuple[RawChat, Observations]:
        changed = list(VALID_LOG.entries)
        change(changed)
        return RawChat(VALID_LOG.name, counter, tuple(changed)), NO_READERS

    return plant


def with_expectation(name: str, **changes: Any) -> PlantFault:
    """Return the valid log with other expectations about one generation."""
    return lambda: (
        VALID_LOG,
        Observations(tuple(replace(one, **changes) if one.generation_id == name else one for one in ENQUEUED)),
    )


def with_reading(after: int, upto: int, **how: Any) -> PlantFault:
    """Return the valid log and one reading of it."""
    return lambda: (VALID_LOG, Observations(ENQUEUED, (reading_of(VALID_LOG, after, upto, **how),)))


def with_wrong_reading(change: Callable[[list[tuple[int, bytes]]], object]) -> PlantFault:
    """Return the valid log and a faulty reading of it."""

    def plant() -> tuple[RawChat, Observations]:
        whole = reading_of(VALID_LOG, 0, len(EVENTS))
        got = list(whole.entries)
        change(got)
        return VALID_LOG, Observations(ENQUEUED, (replace(whole, entries=tuple(got)),))

    return plant


def swap(items: list[Any], one: int, other: int) -> None:
    """Swap two items."""
    items[one], items[other] = items[other], items[one]


BEFORE_LOSS = chat_of((*EVENTS[:12], *(delta("continues", 4, piece) for piece in (1, 2)), queued("other")))
"""The chat as it was before an older copy of twelve events came back, on which the valid log was built."""


def after_loss(before: RawChat, *readings: Reading) -> tuple[RawChat, Observations]:
    """Return the valid log, what it was before, and readings."""
    return VALID_LOG, Observations(ENQUEUED, readings, (before,))


def spliced(before: int, upto: int) -> Reading:
    """Return the reading of one that nobody told of the loss: so many events from before it, the others from after."""
    entries = reading_of(BEFORE_LOSS, 0, before).entries + reading_of(VALID_LOG, before, upto).entries
    return Reading("reader", 0, entries)


FAULTS: list[tuple[str, Rule, PlantFault]] = [
    ("an entry is missing", Rule.HOLE, with_entries(lambda log: log.pop(4))),
    ("the first entry is missing", Rule.HOLE, with_entries(lambda log: log.pop(0))),
    ("a seq has a second entry", Rule.HOLE, with_entries(lambda log: log.insert(5, replace(log[4], id="5-1")))),
    ("the last entry is missing", Rule.COUNTER, with_entries(lambda log: log.pop())),
    ("the counter is ahead", Rule.COUNTER, with_entries(lambda _: None, counter=len(EVENTS) + 1)),
    ("there is no counter", Rule.COUNTER, lambda: (replace(VALID_LOG, counter=None), NO_READERS)),
    (
        "half an event",
        Rule.UNREADABLE,
        with_entries(lambda log: log.insert(2, replace(log.pop(2), data=b'{"type":"te'))),
    ),
    (
        "an event without a generation",
        Rule.UNREADABLE,
        with_entries(lambda log: log.insert(2, replace(log.pop(2), data=b'{"a":1}'))),
    ),
    ("not queued", Rule.QUEUED, with_events(lambda log: log.pop(13))),
    ("queued twice", Rule.QUEUED, with_events(lambda log: log.insert(14, queued("stops")))),
    ("no ending", Rule.UNENDED, with_events(lambda log: log.pop(20))),
    ("a second ending", Rule.TWO_ENDINGS, with_events(lambda log: log.append(ended("stops", "completed")))),
    ("the same ending again", Rule.TWO_ENDINGS, with_events(lambda log: log.append(log[20]))),
    ("text after the ending", Rule.AFTER_ENDING, with_events(lambda log: log.append(delta("stops", 6, 1)))),
    ("started after the ending", Rule.AFTER_ENDING, with_events(lambda log: log.append(started("stops", 2)))),
    (
        "an attempt is skipped",
        Rule.ATTEMPTS,
        with_events(lambda log: log.insert(6, started("restarts", 3)) or log.pop(7)),
    ),
    ("an attempt starts twice", Rule.ATTEMPTS, with_events(lambda log: log.insert(7, started("restarts", 2)))),
    ("it falls back twice", Rule.ATTEMPTS, with_events(lambda log: log.insert(16, started("continues", 3)))),
    ("an older attempt starts again", Rule.ATTEMPTS, with_events(lambda log: log.insert(8, started("restarts", 1)))),
    ("text before the start", Rule.UNSTARTED, with_events(lambda log: swap(log, 1, 2))),
    (
        "completed without a start",
        Rule.UNSTARTED,
        with_events(lambda log: log.append(queued("x")) or log.append(ended("x", "completed"))),
    ),
    ("text of the older attempt", Rule.MIXED, with_events(lambda log: log.insert(8, delta("restarts", 1, 2)))),
    ("only text of the older attempt", Rule.MIXED, with_events(lambda log: log.insert(7, log.pop(2)))),
    ("text of another generation", Rule.TEXT, with_events(lambda log: log.insert(8, delta("restarts", 6, 0)))),
    ("a piece is missing", Rule.TEXT, with_events(lambda log: log.pop(7))),
    ("a piece is duplicated", Rule.TEXT, with_events(lambda log: log.insert(8, log[7]))),
    ("two pieces are swapped", Rule.TEXT, with_events(lambda log: swap(log, 7, 10))),
    ("no model call has the text", Rule.TEXT, with_expectation("stops", calls=())),
    (
        "the end of a completed answer is missing",
        Rule.INCOMPLETE,
        with_events(lambda log: log.pop(16) and log.insert(16, delta("continues", 5, 0))),
    ),
    (
        "completed, and the model was cut off",
        Rule.INCOMPLETE,
        with_expectation(
            "restarts", calls=(ModelOutput(1, call_text(1, 0, 1)), ModelOutput(3, call_text(3, 0, 1, 2), whole=False))
        ),
    ),
    (
        "it continued from too little text",
        Rule.PREFIX,
        with_expectation(
            "continues",
            calls=(
                ModelOutput(2, call_text(2, 0)),
                ModelOutput(4, call_text(4, 0, 1)),
                ModelOutput(5, call_text(5, 0, 1)),
            ),
        ),
    ),
    (
        "it restarted but continued from old text",
        Rule.PREFIX,
        with_expectation(
            "restarts",
            calls=(
                ModelOutput(1, call_text(1, 0, 1)),
                ModelOutput(3, call_text(3, 0, 1, 2), prefix=call_text(1, 0, 1)),
            ),
        ),
    ),
    (
        "a call older than its attempt",
        Rule.MIXED,
        with_expectation("stops", calls=(ModelOutput(6, call_text(6, 0), began=1800),)),
    ),
    (
        "two calls in one attempt",
        Rule.CALLS,
        with_expectation("stops", calls=(ModelOutput(6, call_text(6, 0)), ModelOutput(7, call_text(7, 0)))),
    ),
    ("an acknowledged stop is forgotten", Rule.STOP_IGNORED, with_expectation("restarts", stop_accepted=True)),
    ("nobody asked for the stop", Rule.STOP_UNASKED, with_expectation("stops", stopped_by=frozenset({"revoke"}))),
    ("an unexpected failure", Rule.FAILED, with_expectation("fails", may_fail=frozenset({"deadline"}))),
    ("a generation that no caller knows", Rule.GHOST, lambda: (VALID_LOG, Observations(ENQUEUED[1:]))),
    (
        "a generation that was never written",
        Rule.LOST,
        lambda: (VALID_LOG, Observations((*ENQUEUED, EnqueuedGeneration("more")))),
    ),
    ("a reader misses an entry", Rule.READER, with_wrong_reading(lambda got: got.pop(3))),
    ("a reader gets an entry twice", Rule.READER, with_wrong_reading(lambda got: got.insert(3, got[3]))),
    (
        "a reader gets something else",
        Rule.READER,
        with_wrong_reading(lambda got: got.insert(3, (4, got.pop(3)[1] + b" "))),
    ),
    ("a reader gets more than there is", Rule.READER, with_wrong_reading(lambda got: got.append((26, got[0][1])))),
    ("a reader starts too late", Rule.READER, with_wrong_reading(lambda got: got.pop(0))),
    ("a reader ends in mid-answer", Rule.READER_LEFT, with_reading(0, 8, until="idle", ended=True)),
    ("a reader ends before the ending", Rule.READER_LEFT, with_reading(0, 11, until="restarts", ended=True)),
    (
        "a reader ends before the last event",
        Rule.READER_LEFT,
        with_reading(0, 12, until="restarts", ended=True, complete=True),
    ),
    ("a reader gets an error", Rule.READER_ERROR, with_reading(0, 8, error="CorruptLog")),
    ("a reader is told of a loss that never was", Rule.READER_TOLD, with_reading(0, 8, told=True)),
    (
        "a reader is told of a loss that took nothing from its chat",
        Rule.READER_TOLD,
        lambda: after_loss(chat_of(EVENTS[:12]), reading_of(VALID_LOG, 0, 8, told=True)),
    ),
    ("a reader is spliced", Rule.READER, lambda: after_loss(BEFORE_LOSS, spliced(14, len(EVENTS)))),
    ("a reader is spliced by one event", Rule.READER, lambda: after_loss(BEFORE_LOSS, spliced(14, 15))),
    (
        "a reader comes back to another log",
        Rule.READER,
        lambda: after_loss(BEFORE_LOSS, replace(reading_of(VALID_LOG, 14, 20), behind=BEFORE_LOSS.entries[13].data)),
    ),
    (
        "a reader is left in an answer that was forgotten",
        Rule.READER,  # what it got is not in the log as it is, and it should have got more of the log as it was
        lambda: after_loss(BEFORE_LOSS, reading_of(BEFORE_LOSS, 0, 15, until="stops", ended=True)),
    ),
    (
        "a generation is gone that Redis had not forgotten",
        Rule.LOST,
        lambda: (VALID_LOG, Observations((*ENQUEUED, EnqueuedGeneration("more")), (), (BEFORE_LOSS,))),
    ),
]


def test_a_valid_log_has_no_violation() -> None:
    """Interleaved generations that restart, continue, fall back, stop and fail as expected are all valid."""
    assert check(VALID_LOG, OBSERVATIONS) == []
    assert check(VALID_LOG) == []


def test_an_honest_loss_has_no_violation() -> None:
    """Readers have the log as it was, or as it is, or were told; what was enqueued after the copy may be gone."""
    gone = EnqueuedGeneration("other", (), may_be_gone=True)
    readings = (
        reading_of(BEFORE_LOSS, 0, 15),
        reading_of(BEFORE_LOSS, 4, 14, told=True),
        reading_of(VALID_LOG, 0, len(EVENTS), until="idle", ended=True, complete=True),
        reading_of(VALID_LOG, 12, 12, told=True),
        reading_of(VALID_LOG, 14, 14, told=True, behind=BEFORE_LOSS.entries[13].data),
        reading_of(VALID_LOG, 12, 20, behind=VALID_LOG.entries[11].data),
        reading_of(BEFORE_LOSS, 13, 15, behind=BEFORE_LOSS.entries[12].data),
    )
    assert check(VALID_LOG, Observations((*ENQUEUED, gone), readings, (BEFORE_LOSS,))) == []


def test_forgotten_attempts_leave_their_model_calls() -> None:
    """Only where Redis forgot some: otherwise more calls than attempts are a violation."""
    calls = (ModelOutput(6, call_text(6, 0)), ModelOutput(7, call_text(7, 0)))
    assert check(*with_expectation("stops", calls=calls, forgot_calls=True)()) == []


@pytest.mark.parametrize(("rule", "plant"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_planted_fault_is_found_and_named(rule: Rule, plant: PlantFault) -> None:
    """The violation names the broken rule, and its text names the chat."""
    chat, observations = plant()
    found = check(chat, observations)
    assert rule in {violation.rule for violation in found}
    assert all(str(violation).startswith(f"promise {violation.rule.value} — chat") for violation in found)


def test_a_fault_is_attributed_to_its_own_generation() -> None:
    """With interleaved generations, the violation names the faulty one."""
    chat, observations = with_events(lambda log: log.__setitem__(10, delta("restarts", 1, 2)))()
    assert {violation.generation_id for violation in check(chat, observations)} == {"restarts"}


def test_every_rule_has_a_planted_fault() -> None:
    """Every rule has been seen to work (five of them in test_chaos_verdict.py)."""
    elsewhere = {Rule.UNCAUSED, Rule.OPEN, Rule.DIED, Rule.NEIGHBOUR, Rule.STRANGER}
    assert {rule for _, rule, _ in FAULTS} == set(Rule) - elsewhere
