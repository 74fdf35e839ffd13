"""`fold`: whatever events a chat has, and wherever they are split in two, a person sees the same answers."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkspool.events import (
    DataEvent,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
    UnknownEvent,
    UsageEvent,
)
from chunkspool.fold import Answer, ToolUse, fold

G = st.sampled_from(["g", "h", "i"])
TEXT = st.text("ab", max_size=2)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(GenerationQueued, generation_id=G),
    st.builds(GenerationStarted, generation_id=G, attempt=st.integers(1, 3), model=TEXT, continues=st.booleans()),
    st.builds(TextDelta, generation_id=G, text=TEXT),
    st.builds(TextDelta, generation_id=G, text=TEXT),
    st.builds(ReasoningDelta, generation_id=G, text=TEXT),
    st.builds(ToolCallEvent, generation_id=G, id=TEXT, name=TEXT, arguments=TEXT),
    st.builds(ToolResultEvent, generation_id=G, id=TEXT, output=TEXT),
    st.builds(DataEvent, generation_id=G, name=TEXT, value=TEXT),
    st.builds(UsageEvent, generation_id=G, input_tokens=st.just(1), output_tokens=st.just(2)),
    st.builds(GenerationCompleted, generation_id=G, finish_reason=TEXT),
    st.builds(GenerationStopped, generation_id=G, by=TEXT, reason=st.none() | TEXT),
    st.builds(GenerationFailed, generation_id=G, code=TEXT, message=TEXT),
    st.builds(UnknownEvent, type=st.just("image.delta"), generation_id=G),
)


@given(st.lists(EVENTS, max_size=30))
def test_every_split_folds_to_the_same_answers(events: list[Event]) -> None:
    """A snapshot plus the events after it equals the whole, also when folded one event at a time."""
    whole = fold(events)
    for cut in range(len(events) + 1):
        assert fold(events[cut:], onto=fold(events[:cut])) == whole
    answers: tuple[Answer, ...] = ()
    for event in events:
        answers = fold([event], onto=answers)
    assert answers == whole


@given(st.lists(EVENTS, max_size=30))
def test_answers_do_not_mix(events: list[Event]) -> None:
    """Each generation folds as if it were alone in the chat; answers are ordered by their start."""
    order = dict.fromkeys(event.generation_id for event in events if not isinstance(event, UnknownEvent))
    assert [answer.generation_id for answer in fold(events)] == list(order)
    for answer in fold(events):
        assert fold(event for event in events if event.generation_id == answer.generation_id) == (answer,)


def test_everything_one_attempt_wrote_is_in_its_answer() -> None:
    """Text, reasoning, tools, data and usage are all in their fields."""
    (answer,) = fold(
        [
            GenerationQueued(generation_id="g"),
            GenerationStarted(generation_id="g", attempt=1, model="m"),
            ReasoningDelta(generation_id="g", text="h"),
            ReasoningDelta(generation_id="g", text="m"),
            TextDelta(generation_id="g", text="It is "),
            ToolCallEvent(generation_id="g", id="1", name="clock", arguments="{}"),
            ToolCallEvent(generation_id="g", id="2", name="clock", arguments="{}"),
            ToolResultEvent(generation_id="g", id="2", output={"hour": 12}),
            TextDelta(generation_id="g", text="noon."),
            DataEvent(generation_id="g", name="colour", value="red"),
            UsageEvent(generation_id="g", input_tokens=3, output_tokens=4),
            GenerationCompleted(generation_id="g", finish_reason="length"),
        ]
    )
    assert answer == Answer(
        generation_id="g",
        state="completed",
        attempt=1,
        model="m",
        text="It is noon.",
        reasoning="hm",
        tool_calls=(ToolUse("1", "clock", "{}"), ToolUse("2", "clock", "{}", {"hour": 12})),
        data=(("colour", "red"),),
        usage=UsageEvent(generation_id="g", input_tokens=3, output_tokens=4),
        finish_reason="length",
    )


def test_a_new_attempt_discards_the_old_output() -> None:
    """All of it: text, reasoning, tools, data and usage."""
    said = [
        GenerationStarted(generation_id="g", attempt=1),
        TextDelta(generation_id="g", text="old"),
        ReasoningDelta(generation_id="g", text="old"),
        ToolCallEvent(generation_id="g", id="1", name="old", arguments="{}"),
        DataEvent(generation_id="g", name="old", value=1),
        UsageEvent(generation_id="g", input_tokens=1, output_tokens=1),
    ]
    again = GenerationStarted(generation_id="g", attempt=2, model="m")
    assert fold([*said, again]) == (Answer("g", "running", attempt=2, model="m"),)
    (answer,) = fold([*said, again, TextDelta(generation_id="g", text="new")])
    assert answer.text == "new"


def test_a_continuing_attempt_keeps_the_old_output() -> None:
    """The old text and the new text form one answer."""
    (answer,) = fold(
        [
            GenerationStarted(generation_id="g", attempt=1),
            TextDelta(generation_id="g", text="one, "),
            GenerationStarted(generation_id="g", attempt=2, continues=True),
            TextDelta(generation_id="g", text="two"),
        ]
    )
    assert (answer.text, answer.attempt, answer.state) == ("one, two", 2, "running")


def test_an_answer_has_the_state_and_reason_of_its_ending() -> None:
    """The text stays, whatever the ending."""
    text = [GenerationStarted(generation_id="g", attempt=1), TextDelta(generation_id="g", text="a")]
    (stopped,) = fold([*text, GenerationStopped(generation_id="g", by="user", reason="enough")])
    assert (stopped.state, stopped.stopped_by, stopped.reason, stopped.text) == ("stopped", "user", "enough", "a")
    (failed,) = fold([*text, GenerationFailed(generation_id="g", code="c", message="m")])
    assert (failed.state, failed.error_code, failed.error, failed.text) == ("failed", "c", "m", "a")
    assert fold([GenerationQueued(generation_id="g")]) == (Answer("g", "queued"),)
    assert fold([]) == ()


def test_a_trimmed_log_shows_what_is_left() -> None:
    """The remaining events are shown."""
    (answer,) = fold([TextDelta(generation_id="g", text="the end"), GenerationCompleted(generation_id="g")])
    assert (answer.text, answer.state) == ("the end", "completed")


def _count_copies(monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> int:
    """Return how many answers and tool uses are copied while the events are folded."""
    copies = 0

    def counting(value: Any, **changes: Any) -> Any:
        nonlocal copies
        copies += 1
        return replace(value, **changes)

    monkeypatch.setattr(sys.modules["chunkspool.fold"], "replace", counting)
    fold(events)
    return copies


def test_an_event_costs_the_same_however_many_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """No event copies what came before it, and a result touches no call but its own, and that once."""
    calls = [ToolCallEvent(generation_id="g", id=id_, name="n", arguments="{}") for id_ in map(str, range(200))]
    results = [ToolResultEvent(generation_id="g", id=call.id, output=1) for call in calls]
    same = [
        event
        for call, result in zip(calls, results, strict=True)
        for event in (call.model_copy(update={"id": "same"}), result.model_copy(update={"id": "same"}))
    ]
    data = [DataEvent(generation_id="g", name="mark", value=i) for i in range(200)]
    assert _count_copies(monkeypatch, [*data]) == _count_copies(monkeypatch, [*data[:1]])
    assert _count_copies(monkeypatch, [*calls]) == _count_copies(monkeypatch, [*calls[:1]])
    assert _count_copies(monkeypatch, [*calls, *results]) == 1 + len(calls)
    assert _count_copies(monkeypatch, [*same]) == 1 + len(calls)
