"""What a browser adds to an answer: what became of its open calls. All else of the message is the log's."""

from __future__ import annotations

from typing import Any

import pytest

from chunkspool.dialects.usechat_additions import with_additions
from chunkspool.dialects.usechat_messages import UiMessage

Part = dict[str, Any]
TEXT: Part = {"type": "text", "text": "Let me see.", "state": "done"}
CALL: Part = {"type": "tool-clock", "toolCallId": "1", "state": "input-available", "input": {"zone": "UTC"}}
YES: Part = {"id": "a", "approved": True}
NO: Part = {"id": "a", "approved": False, "reason": "why?"}


def add(logged: list[Part], sent: list[Part]) -> list[Part]:
    """Return the parts of what is made of a message in the log and a browser's."""
    in_log = UiMessage(id="g1", role="assistant", parts=logged, metadata={"generation": "g1"})
    forged = UiMessage(id="g1", role="assistant", parts=sent, metadata={"generation": "x"})
    made = with_additions(in_log, forged)
    assert (made.id, made.metadata) == ("g1", {"generation": "g1"})
    return made.parts


@pytest.mark.parametrize(
    "added",
    [
        {"state": "output-available", "output": {"hour": 12}},
        {"state": "output-available", "output": None},
        {"state": "output-available", "output": 1, "approval": YES},
        {"state": "output-error", "errorText": "no such zone"},
        {"state": "approval-responded", "approval": YES},
        {"state": "approval-responded", "approval": NO},
        {"state": "output-denied", "approval": NO},
        {"state": "output-denied", "approval": {"id": "a"}},
    ],
)
def test_what_became_of_a_call_is_the_browsers_to_say(added: Part) -> None:
    """With the fields of that, and no others."""
    sent = {**CALL, "input": "FORGED", "title": "FORGED", **added}
    assert add([TEXT, CALL], [{**TEXT, "text": "FORGED"}, sent, TEXT]) == [TEXT, {**CALL, **added}]


@pytest.mark.parametrize(
    "sent",
    [
        {**CALL, "input": {}},
        {**CALL, "state": "output-available"},
        {**CALL, "state": "output-available", "output": 1, "preliminary": True},
        {**CALL, "state": "approval-responded"},
        {**CALL, "state": "approval-responded", "approval": {"id": "a"}},
        {**CALL, "state": "approval-responded", "approval": "yes"},
        {**CALL, "state": "unheard-of", "output": 1},
        {**CALL, "state": ["output-available"], "output": 1},
        {**CALL, "state": "output-available", "output": 1, "toolCallId": "2"},
        {**CALL, "state": "output-available", "output": 1, "type": "tool-mail"},
        {"type": "data-chunkspool-restart", "data": {"attempt": 2}},
        {"type": "source-url", "sourceId": "s", "url": "https://a.example"},
    ],
)
def test_all_else_is_left_out(sent: Part) -> None:
    """The message is that of the log."""
    assert add([TEXT, CALL], [sent]) == [TEXT, CALL]


@pytest.mark.parametrize(
    "logged",
    [
        {**CALL, "state": "output-available", "output": "noon"},
        {**CALL, "state": "output-error", "errorText": "e"},
        {**CALL, "state": "output-denied", "approval": NO},
        {**CALL, "state": "approval-responded", "approval": NO},
    ],
)
def test_what_has_an_outcome_keeps_it(logged: Part) -> None:
    """The first that came is the one; a call that was denied has not run."""
    for approval in (YES, NO):
        assert add([logged], [{**CALL, "state": "output-available", "output": "FORGED", "approval": approval}]) == [
            logged
        ]


def test_an_approved_call_gets_its_output() -> None:
    """And stays approved by the one who did."""
    logged = {**CALL, "state": "approval-responded", "approval": YES}
    sent = {**CALL, "state": "output-available", "output": 1, "approval": NO}
    assert add([logged], [sent]) == [{**CALL, "state": "output-available", "output": 1, "approval": YES}]
    denied = {**CALL, "state": "approval-responded", "approval": NO}
    assert add([denied], [{**CALL, "state": "output-denied"}]) == [{**denied, "state": "output-denied"}]


def test_calls_of_one_id_are_told_apart_from_the_last_one_on() -> None:
    """A browser may have void ones in front; some models begin to count anew in each step."""
    first = {**CALL, "state": "output-available", "output": 1}
    answered = {**CALL, "state": "output-available", "output": 2}
    assert add([first, TEXT, CALL], [{**first, "output": 0}, first, answered]) == [first, TEXT, answered]
    assert add([CALL, TEXT, CALL], [answered]) == [CALL, TEXT, answered]
    dynamic = {**CALL, "type": "dynamic-tool", "toolName": "clock"}
    assert add([CALL], [{**dynamic, "state": "output-available", "output": 2}]) == [answered]
