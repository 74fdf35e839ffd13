"""`fold` and `conversation` tell of each log what the golden vectors say; the page's JavaScript is held to the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chunkspool import Answer, Turn, conversation, fold
from chunkspool.events import Event, MessageEvent, decode

FOLDER = Path(__file__).parents[1] / "vectors" / "conversation"
VECTORS = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))}


def events_of(vector: dict[str, Any]) -> list[Event]:
    """Return the vector's events as a reader has them."""
    return [decode(json.dumps(event).encode(), seq) for seq, event in enumerate(vector["events"], 1)]


def describe_answer(answer: Answer) -> dict[str, Any]:
    """Return what a vector says of an answer."""
    return {
        "generation": answer.generation_id,
        "state": answer.state,
        "text": answer.text,
        "answers": answer.answers,
        "replaces": answer.replaces,
        "asked": ids_of(answer.asked),
    }


def describe_turn(turn: Turn) -> dict[str, Any]:
    """Return what a vector says of a turn."""
    return {
        "messages": ids_of(turn.messages),
        "answer": turn.answer.generation_id,
        "versions": list(turn.versions),
    }


def ids_of(messages: tuple[MessageEvent, ...]) -> list[str]:
    """Return the ids of messages."""
    return [message.id for message in messages]


def test_there_are_vectors() -> None:
    """Each says something else."""
    assert len(VECTORS) > 30
    assert len({vector["name"] for vector in VECTORS.values()}) == len(VECTORS)


@pytest.mark.parametrize("name", VECTORS)
def test_the_log_tells_its_conversation(name: str) -> None:
    """The answers in order, what each was asked, and the turns that count with their versions."""
    vector = VECTORS[name]
    answers = fold(events_of(vector))
    assert [describe_answer(one) for one in answers] == vector["answers"]
    assert [describe_turn(one) for one in conversation(answers)] == vector["turns"]


@pytest.mark.parametrize("name", VECTORS)
def test_a_fold_goes_on_at_every_cut(name: str) -> None:
    """`fold(a + b) == fold(b, onto=fold(a))`, to the last field."""
    events = events_of(VECTORS[name])
    whole = fold(events)
    for cut in range(len(events) + 1):
        assert fold(events[cut:], onto=fold(events[:cut])) == whole


def test_a_turn_has_the_messages_as_they_were_given() -> None:
    """Content, tool calls and whatever else a client has said."""
    vector = VECTORS["content_parts"]
    given = [event for event in vector["events"] if event["type"] == "message"]
    found = [message for turn in conversation(fold(events_of(vector))) for message in turn.messages]
    assert [{"content": None, **message.model_dump()} for message in found] == given
