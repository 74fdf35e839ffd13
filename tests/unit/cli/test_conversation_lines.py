"""What `chunkspool show` says of a conversation, in lines and as a document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from chunkspool.cli.conversation_lines import Telling
from chunkspool.events import Entry, decode

FOLDER = Path(__file__).parents[2] / "vectors" / "conversation"
VECTORS = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))}
SECOND = 1000


def tell(events: Iterable[dict[str, Any]]) -> Telling:
    """Return what is told of a log whose events came a second apart."""
    telling = Telling("chat")
    for seq, event in enumerate(events, 1):
        raw = json.dumps(event).encode()
        telling.add(Entry(seq, seq * SECOND, decode(raw, seq), raw, log="0123456789ab"))
    return telling


def lines_of(name: str) -> list[str]:
    """Return the lines about a vector, without the days and times."""
    return [line.partition("  ")[2] if line[:2] == "19" else line for line in tell(VECTORS[name]["events"]).lines()]


@pytest.mark.parametrize("name", VECTORS)
def test_the_document_has_what_the_log_tells(name: str) -> None:
    """Messages, answers and turns, as the golden vectors have them."""
    vector = VECTORS[name]
    document = json.loads(tell(vector["events"]).document())
    names = ("generation", "state", "text", "answers", "replaces", "asked")
    assert [{each: one[each] for each in names} for one in document["answers"]] == vector["answers"]
    turns = [{each: one[each] for each in ("messages", "answer", "versions")} for one in document["turns"]]
    assert turns == vector["turns"]
    given = [event for event in vector["events"] if event["type"] == "message"]
    for message, event in zip(document["messages"], given, strict=True):
        assert message.pop("at") >= SECOND
        assert {"content": None, **message} == event


@pytest.mark.parametrize("name", VECTORS)
def test_the_lines_have_every_answer_that_counts(name: str) -> None:
    """And none that does not: those are counted."""
    vector = VECTORS[name]
    heading, *lines = tell(vector["events"]).lines()
    told = [line.rpartition("(")[2].rstrip(")") for line in lines if "  assistant: " in line]
    assert told == [turn["answer"] for turn in vector["turns"]]
    others = len(vector["answers"]) - len(told)
    assert (f"{others} of which do not count" in heading) == (others > 0)


def test_a_conversation_is_readable() -> None:
    """Who said what, how each answer ended, and how long it took."""
    assert lines_of("stopped_and_failed") == [
        "chat chat: 4 answers up to seq 16, 1 of which do not count",
        "",
        "user",
        "  Question m1",
        "",
        "assistant: stopped by user: enough, 2.0 s, model m  (g1)",
        "  Half",
        "",
        "user",
        "  Question m2",
        "",
        "assistant: completed, version 2 of 2, 2.0 s, model m  (g3)",
        "  Answer g3",
        "",
        "user",
        "  Question m4",
        "",
        "assistant: stopped by user  (g4)",
    ]


def test_tools_and_parts_are_named() -> None:
    """What is no text is told in a line."""
    lines = lines_of("tools")
    assert '  · calls the tool weather (c1): {"city":"Oslo"} → {"degrees":-3}' in lines
    assert "  · calls the tool confirm (c2): {}" in lines
    assert lines[lines.index("tool") + 1 :][:2] == ['  {"ok":true}', "  · for the call c2"]
    parts = lines_of("content_parts")
    assert parts[2:5] == ["user", "  What is this? 🖼", "  [image_url]"]
    assert "  · calls the tool now: {}" in parts


def test_nobody_commands_the_terminal() -> None:
    """Neither by a text, nor by a role, a model or a tool's name."""
    bad = "\x1b[2J\r\x9b1m"
    events = [
        {
            "type": "message",
            "generation": "g",
            "id": bad,
            "role": bad,
            "content": bad,
            "tool_calls": [bad, {"function": bad}],
        },
        {"type": "generation.started", "generation": "g", "attempt": 2, "model": bad, "continues": True},
        {"type": "tool.call", "generation": "g", "id": bad, "name": bad, "arguments": bad},
        {"type": "data", "generation": "g", "name": bad, "value": bad},
        {"type": "generation.failed", "generation": "g", "code": bad, "message": bad},
    ]
    text = "".join(tell(events).lines())
    assert not {*"\x1b\r\x9b"} & set(text)
    assert "attempt 2" in text


@pytest.mark.parametrize("tool_calls", [5, "x", [None], [{"function": None}], {"a": 1}])
def test_odd_fields_of_a_message_are_no_error(tool_calls: object) -> None:
    """A message has what its client has sent."""
    event = {"type": "message", "generation": "g", "id": "m", "role": "user", "content": None, "tool_calls": tool_calls}
    telling = tell([{**event, "tool_call_id": tool_calls}])
    assert len(list(telling.lines())) > 3
    assert json.loads(telling.document())["messages"][0]["tool_calls"] == tool_calls
