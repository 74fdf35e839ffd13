"""Calls and results are pairs, and no result is larger than a reader's log can take."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chunkspool.integrations.tool_results import MAX_CALLS, MAX_OUTPUT, ToolPairs, bounded_output
from chunkspool.provider import ToolCall, ToolResult


def test_each_call_has_one_result() -> None:
    """Calls of one id are answered in their order; a result without a call is dropped: no reader knows its call."""
    pairs = ToolPairs()
    assert not pairs.all_answered
    assert pairs.result("a", 0) is None
    assert [pairs.call(ToolCall("a", "f", "{}")).id for _ in range(3)] == ["a", "a_2", "a_3"]
    assert pairs.call(ToolCall("", "f", "{}")).id == "call"
    assert [pairs.result("a", number) for number in range(4)] == [
        ToolResult("a", 0),
        ToolResult("a_2", 1),
        ToolResult("a_3", 2),
        None,
    ]
    assert not pairs.all_answered
    assert pairs.result("", "x") == ToolResult("call", "x")
    assert pairs.all_answered


def test_calls_are_counted() -> None:
    """An agent that never ends must not fill the worker's memory."""
    pairs = ToolPairs()
    for number in range(MAX_CALLS):
        pairs.call(ToolCall(str(number), "f", "{}"))
    with pytest.raises(Exception, match="agent_limit"):
        pairs.call(ToolCall("x", "f", "{}"))


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
DEEP: Any = 1
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("noon", "noon"),
        (None, None),
        ({"hour": 12, "exact": [True]}, {"hour": 12, "exact": [True]}),
        ({1}, [1]),
        (float("nan"), None),
        ("\ud83d", "?"),
        (b"\xff\xfe", "__4="),
        (object, str(object)),
        (CIRCLE, "(list)"),
    ],
    ids=str,
)
def test_any_output_becomes_json(output: object, expected: object) -> None:
    """Tools return what they like."""
    assert bounded_output(output) == expected


@pytest.mark.parametrize("output", [DEEP, 10**5000, {"x": 10**5000}], ids=["deep", "long number", "in an object"])
def test_no_output_breaks_the_log(output: object) -> None:
    """Whatever it is, JSON comes out."""
    json.dumps(bounded_output(output))


@pytest.mark.parametrize(
    "output", ["ä" * MAX_OUTPUT, ["x" * 1000] * 1000, "\0" * MAX_OUTPUT], ids=["text", "list", "nul"]
)
def test_a_long_output_is_cut(output: object) -> None:
    """Its beginning is shown, and how long it is. The model gets all of it, from its framework."""
    cut = bounded_output(output)
    assert isinstance(cut, str)
    assert len(cut.encode()) <= MAX_OUTPUT + 100
    assert cut.endswith("characters)")
