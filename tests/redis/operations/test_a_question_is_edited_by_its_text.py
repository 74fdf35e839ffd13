"""`replaces` and a prompt: the question gets another text, and all else that was asked with it stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, read_log
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import InvalidRequest

PICTURE = {"type": "image_url", "image_url": {"url": "https://elsewhere.example/p.png"}}
PLAN = {"type": "file", "file": {"filename": "plan.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}}
TOOL = {"role": "tool", "tool_call_id": "c1", "content": "noon"}
SYSTEM = {"role": "system", "content": "Be kind."}


@pytest.fixture
def talk(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that keeps messages, as spools usually do."""
    with spool_for(redis_url, keep_messages=True) as spool:
        yield spool


def text(said: str) -> dict[str, Any]:
    """Return a part."""
    return {"type": "text", "text": said}


def play(spool: Spool, generation_id: str, calls: str | None = None) -> list[Any]:
    """Play the worker; return what its model got."""
    with spool.produce(CHAT, generation_id) as out:
        if calls:
            out.tool_call(calls, "clock", "{}")
        else:
            out.text("Hi.")
        return list(out.request.messages)


def ask(spool: Spool, *messages: Any, **options: Any) -> str:
    """Ask and answer."""
    made = spool.enqueue(CHAT, messages=messages, **options).generation_id
    play(spool, made)
    return made


def test_pictures_files_and_the_name_stay(talk: Spool, client: Redis) -> None:
    """The new text stands where the first one stood; the question is a new message; a client's view is not kept."""
    content = [PICTURE, text("a"), PLAN, text("b")]
    shown = {"id": "m1", "role": "user", "parts": [text("a")]}
    first = ask(talk, {"role": "user", "content": content, "name": "ann", "id": "m1", "ui": shown})
    edited = talk.enqueue(CHAT, "c", replaces=first).generation_id
    asked = {"role": "user", "content": [PICTURE, text("c"), PLAN], "name": "ann"}
    question, queued = read_log(client)[-2:]
    own = {"type": "message", "generation": edited, "id": f"{edited}.1"}
    assert question.event == {**own, **asked}
    assert (queued.event["answers"], queued.event["replaces"]) == (f"{edited}.1", first)
    assert play(talk, edited) == [asked]


def test_a_question_without_text_gets_one(talk: Spool) -> None:
    """It stands in front of the pictures."""
    first = ask(talk, {"role": "user", "content": [PICTURE]})
    assert play(talk, talk.enqueue(CHAT, "What?", replaces=first).generation_id)[-1]["content"] == [
        text("What?"),
        PICTURE,
    ]


def test_tool_outputs_before_the_question_stay(talk: Spool) -> None:
    """The model gets the call, its output and the new text, behind the messages of the app; so does the log."""
    play(talk, talk.enqueue(CHAT, "When?").generation_id, calls="c1")
    second = ask(talk, TOOL, {"role": "user", "content": "And then?"}, history=True)
    edited = talk.enqueue(CHAT, "And now?", messages=[SYSTEM], replaces=second).generation_id
    system, question, answer, output, edit = play(talk, edited)
    assert (system, question["content"], answer["tool_calls"][0]["id"]) == (SYSTEM, "When?", "c1")
    assert output == TOOL
    assert edit == {"role": "user", "content": "And now?"}
    turns = talk.snapshot(CHAT).conversation
    assert [[one.role for one in turn.messages] for turn in turns] == [["user"], ["tool", "user"]]
    assert turns[-1].versions == (second, edited)
    # What was edited is edited again, and what it was asked with stays all the same.
    third = talk.enqueue(CHAT, "Now?", replaces=edited).generation_id
    assert [message["role"] for message in play(talk, third)] == ["user", "assistant", "tool", "user"]


def test_of_several_questions_the_last_is_edited(talk: Spool, client: Redis) -> None:
    """Also where the log began with a conversation from elsewhere, which the model gets with it."""
    given = [{"role": role, "content": said} for role, said in (("user", "a"), ("assistant", "A"), ("user", "b"))]
    first = ask(talk, *given, {"role": "user", "content": "c"})
    edited = talk.enqueue(CHAT, "d", replaces=first).generation_id
    assert play(talk, edited) == [*given, {"role": "user", "content": "d"}]
    said = [entry.event["content"] for entry in read_log(client) if entry.type == "message"]
    assert said == ["a", "A", "b", "c", "a", "A", "b", "d"]


def test_messages_are_what_is_asked(talk: Spool) -> None:
    """With `messages`, nothing of the old question is kept."""
    first = ask(talk, TOOL, {"role": "user", "content": [PICTURE, text("a")], "name": "ann"})
    asked = {"role": "user", "content": "b"}
    edited = talk.enqueue(CHAT, messages=[asked], replaces=first).generation_id
    assert play(talk, edited) == [asked]
    assert [one.content for one in talk.snapshot(CHAT).conversation[-1].messages] == ["b"]


def test_where_the_log_has_no_question_the_text_is_asked(talk: Spool, redis_url: str) -> None:
    """Nothing else is known; and of messages among which there is no question, none is edited."""
    with spool_for(redis_url, keep_messages=False) as older:
        first = ask(older, {"role": "user", "content": [PICTURE, text("a")]})
    assert play(talk, talk.enqueue(CHAT, "b", replaces=first).generation_id) == [{"role": "user", "content": "b"}]
    outputs = ask(talk, TOOL)
    with pytest.raises(InvalidRequest, match="answers no question: pass messages="):
        talk.enqueue(CHAT, "c", replaces=outputs)


def test_only_messages_of_the_app_stand_before_a_prompt(talk: Spool) -> None:
    """With any other, it would be said twice who asks what."""
    for messages in ([], [{"role": "user", "content": "x"}], [SYSTEM, TOOL], "x", [7]):
        with pytest.raises(InvalidRequest, match="pass either prompt="):
            talk.enqueue(CHAT, "y", messages=messages)  # type: ignore[arg-type] # that is the point
    made = talk.enqueue(CHAT, "y", messages=[SYSTEM]).generation_id
    assert play(talk, made) == [SYSTEM, {"role": "user", "content": "y"}]
