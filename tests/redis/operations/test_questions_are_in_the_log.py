"""What is new of the conversation is written into the log with the generation that answers it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import spool_for

from chunkspool import Spool
from chunkspool.errors import (
    ChatBusy,
    CorruptLog,
    GenerationNotFound,
    InvalidId,
    InvalidRequest,
    RequestIdReused,
    RequestTooLarge,
)
from chunkspool.ids import new_generation_id
from chunkspool.operations.new_messages import MESSAGES_MAX, RECENT_MAX
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.store.scripts import NewEvents

HELLO = {"role": "user", "content": "Hello?"}
HI = {"role": "assistant", "content": "Hi."}
AGAIN = {"role": "user", "content": "Again?"}
SYSTEM = {"role": "system", "content": "You are the app's secret."}


@pytest.fixture
def talk(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that keeps messages, as spools usually do."""
    with spool_for(redis_url, keep_messages=True) as spool:
        yield spool


def logged(client: Redis) -> list[str]:
    """Return the contents of the messages in the log, in order."""
    return [entry.event["content"] for entry in read_log(client) if entry.type == "message"]


def answer(spool: Spool, generation_id: str, text: str = "Hi.") -> None:
    """Play the worker."""
    with spool.produce(CHAT, generation_id) as out:
        out.text(text)


def test_a_question_stands_before_what_answers_it(talk: Spool, client: Redis) -> None:
    """In the same step: the cursor of the receipt is before both."""
    made = talk.enqueue(CHAT, "Hello?")
    question, queued = read_log(client)
    own_id = f"{made.generation_id}.1"
    assert question.event == {
        "type": "message",
        "generation": made.generation_id,
        "id": own_id,
        "role": "user",
        "content": "Hello?",
    }
    assert queued.event == {"type": "generation.queued", "generation": made.generation_id, "answers": own_id}
    assert made.after == 0
    answer(talk, made.generation_id)
    assert talk.enqueue(CHAT, "Again?").after == len(read_log(client)) - 2


def test_what_was_given_is_kept_as_it_was(talk: Spool, client: Redis) -> None:
    """Parts, names, an id of the client's own, also where it looks like a field of an event."""
    parts = [{"type": "text", "text": "See?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]
    message = {"role": "user", "content": parts, "id": "m1", "name": "ada", "type": "x", "generation": "y"}
    talk.enqueue(CHAT, messages=[message])
    (entry, _) = read_log(client)
    assert (entry.event["content"], entry.event["id"], entry.event["name"]) == (parts, "m1", "ada")
    assert (entry.event["type"], entry.event["generation"]) == ("message", talk.status(CHAT).active[0])


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([[HELLO], [HELLO, HI, AGAIN]], ["Hello?", "Again?"]),
        ([[SYSTEM, HELLO], [SYSTEM, HELLO, HI, SYSTEM, AGAIN]], ["Hello?", "Again?"]),
        # The first answer has failed: the app sends its question again with the next one.
        ([[HELLO], [HELLO, AGAIN]], ["Hello?", "Again?"]),
        ([[HELLO], [HELLO, HELLO]], ["Hello?", "Hello?"]),
        ([[HELLO], [HELLO]], ["Hello?", "Hello?"]),
        ([[HELLO, AGAIN], [HELLO, AGAIN, HELLO]], ["Hello?", "Again?", "Hello?"]),
        # A conversation from elsewhere, in an empty log and in one that has begun.
        ([[HELLO, HI, AGAIN]], ["Hello?", "Hi.", "Again?"]),
        ([[AGAIN], [HELLO, HI, AGAIN]], ["Again?", "Again?"]),
        ([[HI]], ["Hi."]),
        ([[AGAIN], [HELLO, HI]], ["Again?", "Hello?", "Hi."]),
        (
            [[HELLO], [HELLO, HI, {"role": "tool", "tool_call_id": "t", "content": "7"}, AGAIN]],
            ["Hello?", "7", "Again?"],
        ),
    ],
)
def test_what_is_new_is_written_once(
    talk: Spool, client: Redis, turns: list[list[dict[str, Any]]], expected: list[str]
) -> None:
    """Whatever of the conversation a request repeats; never what the app says to the model."""
    for messages in turns:
        answer(talk, talk.enqueue(CHAT, messages=messages).generation_id)
    assert logged(client) == expected


@pytest.mark.parametrize("by", ["setting", "call"])
def test_it_can_be_switched_off(client: Redis, redis_url: str, by: str) -> None:
    """For all, or for one call: an app may keep the messages itself."""
    with spool_for(redis_url, keep_messages=by == "call") as spool:
        spool.enqueue(CHAT, "Hello?", keep_messages=False if by == "call" else None)
        assert [entry.event.keys() for entry in read_log(client)] == [{"type", "generation"}]
        spool.enqueue(CHAT, "Now.", keep_messages=True, on_active="allow")
    assert logged(client) == ["Now."]


def test_a_refused_request_writes_nothing(talk: Spool, client: Redis) -> None:
    """Neither while the chat is busy nor for a request id that another request has."""
    talk.enqueue(CHAT, "Hello?", request_id="one")
    with pytest.raises(ChatBusy):
        talk.enqueue(CHAT, "Again?")
    with pytest.raises(RequestIdReused):
        talk.enqueue(CHAT, "Again?", request_id="one")
    assert talk.enqueue(CHAT, "Hello?", request_id="one").after == 0
    assert logged(client) == ["Hello?"]


def test_questions_at_the_same_time_are_all_there(talk: Spool, client: Redis) -> None:
    """Each stands directly before what answers it."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: talk.enqueue(CHAT, f"{n}?", on_active="allow"), range(24)))
    entries = read_log(client)
    assert sorted(logged(client)) == sorted(f"{n}?" for n in range(24))
    for question, queued in zip(entries[::2], entries[1::2], strict=True):
        assert queued.event["answers"] == question.event["id"]
        assert queued.event["generation"] == question.event["generation"]
    assert {one.after for one in made} == set(range(0, 48, 2))


def test_what_another_request_has_written_meanwhile_is_seen(talk: Spool, client: Redis) -> None:
    """The script writes nothing for a caller that has not seen it: it would write a question twice."""
    talk.enqueue(CHAT, messages=[HELLO])
    before = read_log(client)
    late = NewEvents((b'{"type":"message","generation":"g","id":"m","role":"user","content":"Hello?"}',), 0, b"{}")
    call = partial(scripts.enqueue, KEYS, new_generation_id(), b"{}", model=None, active=(), on_active="allow")
    assert Store(client).send(call(ttl_ms=60_000, events=late)).outcome == "changed"
    assert read_log(client) == before


def test_an_empty_log_begins_anew(talk: Spool, client: Redis) -> None:
    """What the log had that has expired, it does not have: the conversation is written again."""
    answer(talk, talk.enqueue(CHAT, messages=[HELLO]).generation_id)
    client.delete(KEYS.log)
    made = talk.enqueue(CHAT, messages=[HELLO, AGAIN])
    assert [entry.event.content for entry in talk.read(CHAT, made.after) if entry.type == "message"] == [
        "Hello?",
        "Again?",
    ]


def test_without_the_head_an_unanswered_question_is_written_again(talk: Spool, client: Redis) -> None:
    """Nothing tells any more that the log has it; what has been answered is not written again."""
    answer(talk, talk.enqueue(CHAT, messages=[HELLO]).generation_id)
    talk.stop(CHAT, talk.enqueue(CHAT, messages=[HELLO, HI, AGAIN]).generation_id)
    client.delete(KEYS.head)
    talk.enqueue(CHAT, messages=[HELLO, HI, AGAIN, {"role": "user", "content": "There?"}])
    assert logged(client) == ["Hello?", "Again?", "Again?", "There?"]


def test_of_very_many_messages_the_newest_are_written(talk: Spool, client: Redis) -> None:
    """One script writes at most so many; a model that gets what the log has would miss the others, and is refused."""
    many = [{"role": "user", "content": str(n)} for n in range(MESSAGES_MAX + 1)]
    with pytest.raises(InvalidRequest, match="with history at most 64"):
        talk.enqueue(CHAT, messages=many, history=True)
    assert not client.exists(KEYS.log)
    made = talk.enqueue(CHAT, messages=many).generation_id
    assert logged(client) == [*map(str, range(1, MESSAGES_MAX + 1))]
    assert len(request_of(client, made)[0]) == MESSAGES_MAX + 1
    assert len(client.hget(KEYS.head, "recent").split()) <= RECENT_MAX


def test_of_a_long_conversation_from_elsewhere_the_end_is_written(talk: Spool, client: Redis) -> None:
    """The newest messages, and the question in any case."""
    many = [{"role": "user", "content": str(n)} for n in range(MESSAGES_MAX + 1)]
    answer(talk, talk.enqueue(CHAT, messages=[*many, HI, HELLO]).generation_id)
    assert logged(client) == [*map(str, range(3, MESSAGES_MAX + 1)), "Hi.", "Hello?"]
    talk.enqueue(CHAT, messages=[*many, HI, HELLO, HI, AGAIN])
    assert logged(client)[-2:] == ["Hello?", "Again?"]


def test_what_only_the_log_gets_is_bounded_too(talk: Spool, client: Redis) -> None:
    """How a client shows a message does not go to the model, but stands in the log."""
    with pytest.raises(RequestTooLarge):
        talk.enqueue(CHAT, messages=[{**HELLO, "ui": {"parts": ["x" * 2_000_000]}}])
    assert not client.exists(KEYS.log)
    largest = "x" * (talk.settings.log.max_request_bytes - 100)
    talk.enqueue(CHAT, largest)


def test_of_a_large_conversation_from_elsewhere_the_newest_is_written(talk: Spool, client: Redis) -> None:
    """As much as a request may have: how a client shows its messages may have more than what they say."""
    shown = [{"role": "assistant", "content": str(n), "ui": {"parts": ["x" * 300_000]}} for n in range(5)]
    talk.enqueue(CHAT, messages=[*shown, HELLO])
    assert logged(client) == ["2", "3", "4", "Hello?"]


def test_what_is_only_shown_is_not_for_the_model(talk: Spool, client: Redis) -> None:
    """It says nothing, and is in the log for other clients."""
    shown = {"role": "assistant", "content": None, "ui": {"parts": []}}
    made = talk.enqueue(CHAT, messages=[HELLO, shown]).generation_id
    assert request_of(client, made)[0] == ["Hello?"]
    assert [entry.event["role"] for entry in read_log(client) if entry.type == "message"] == ["user", "assistant"]
    with pytest.raises(InvalidRequest, match="nested too deep"):
        talk.enqueue(CHAT, messages=[{**shown, "ui": deep_value(220)}], on_active="allow")


def deep_value(depth: int) -> dict[str, Any]:
    """Return an object in objects."""
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def test_a_large_question_reaches_a_reader_that_follows(talk: Spool) -> None:
    """It is too large for a frame: the reader is told to look into the log."""
    answer(talk, talk.enqueue(CHAT, "Hello?").generation_id)
    with talk.subscribe(CHAT, until="forever") as entries:
        while next(entries).type != "generation.completed":
            pass
        made = talk.enqueue(CHAT, "x" * 500_000)
        question, queued = next(entries), next(entries)
        assert (len(question.event.content), question.seq) == (500_000, made.after + 1)
        assert queued.type == "generation.queued"
        answer(talk, made.generation_id)
        assert next(entries).type == "generation.started"


def test_the_snapshot_has_the_conversation(talk: Spool) -> None:
    """Every answer knows what it answers; together they are the conversation."""
    first = talk.enqueue(CHAT, messages=[SYSTEM, HELLO])
    answer(talk, first.generation_id)
    second = talk.enqueue(CHAT, messages=[{**AGAIN, "id": "m2"}])
    one, two = talk.snapshot(CHAT).answers
    assert (one.generation_id, one.answers, one.text) == (first.generation_id, f"{first.generation_id}.1", "Hi.")
    assert (two.generation_id, two.answers, two.state) == (second.generation_id, "m2", "queued")
    turns = talk.snapshot(CHAT).conversation
    assert [[message.content for message in turn.messages] for turn in turns] == [["Hello?"], ["Again?"]]
    assert [turn.answer for turn in turns] == [one, two]


def request_of(client: Redis, generation_id: str) -> tuple[list[Any], bool]:
    """Return what the messages that the model gets say, and whether the history comes before them."""
    stored = json.loads(client.hget(KEYS.gen(generation_id), "request"))
    assert all(message.keys().isdisjoint({"id", "ui"}) for message in stored["messages"])
    return [message["content"] for message in stored["messages"]], stored.get("history", False)


def test_another_version_of_an_answer(talk: Spool, client: Redis) -> None:
    """It is asked the same, with what was said before; nothing is written twice; the newest version counts."""
    first = talk.enqueue(CHAT, messages=[SYSTEM, {**HELLO, "id": "m1"}]).generation_id
    answer(talk, first, "Hi.")
    second = talk.enqueue(CHAT, replaces=first).generation_id
    assert request_of(client, second) == (["Hello?"], True)
    answer(talk, second, "Good morning.")
    third = talk.enqueue(CHAT, messages=[SYSTEM], replaces=second).generation_id
    assert request_of(client, third) == ([SYSTEM["content"], "Hello?"], True)
    assert logged(client) == ["Hello?"]
    answers = talk.snapshot(CHAT).answers
    assert [(one.replaces, one.answers) for one in answers] == [(None, "m1"), (first, "m1"), (second, "m1")]
    (turn,) = talk.snapshot(CHAT).conversation
    assert (turn.answer.generation_id, turn.versions) == (third, (first, second, third))
    assert [message.id for message in turn.messages] == ["m1"]


def test_a_question_without_an_id_of_its_own_is_written_once(talk: Spool, client: Redis) -> None:
    """Whether its answer is asked for again without it, or with the id that a client has read in the log."""
    first = talk.enqueue(CHAT, "Hello?").generation_id
    answer(talk, first)
    second = talk.enqueue(CHAT, replaces=first).generation_id
    answer(talk, second)
    asked = {**HELLO, "id": f"{first}.1"}
    third = talk.enqueue(CHAT, messages=[asked], replaces=second).generation_id
    talk.stop(CHAT, third)
    assert logged(client) == ["Hello?"]
    talk.enqueue(CHAT, messages=[asked, {**AGAIN, "id": "m2"}])
    assert logged(client) == ["Hello?", "Again?"]


@pytest.mark.parametrize("given", [{"prompt": "Hullo?"}, {"messages": [{"role": "user", "content": "Hullo?"}]}])
def test_an_edited_question(talk: Spool, client: Redis, given: dict[str, Any]) -> None:
    """It stands in the log beside the old one, and takes its place in the conversation, which ends with it."""
    first = talk.enqueue(CHAT, "Hello?").generation_id
    answer(talk, first)
    answer(talk, talk.enqueue(CHAT, "Again?").generation_id)
    edited = talk.enqueue(CHAT, **given, replaces=first).generation_id
    assert logged(client) == ["Hello?", "Again?", "Hullo?"]
    assert request_of(client, edited)[0] == ["Hullo?"]
    (turn,) = talk.snapshot(CHAT).conversation
    assert ([message.content for message in turn.messages], turn.versions) == (["Hullo?"], (first, edited))


def test_after_an_edit_the_conversation_goes_on(talk: Spool, client: Redis) -> None:
    """What the edited question has replaced is not looked for in what comes next."""
    answer(talk, talk.enqueue(CHAT, messages=[HELLO]).generation_id)
    second = talk.enqueue(CHAT, messages=[HELLO, HI, AGAIN]).generation_id
    answer(talk, second)
    edited = {"role": "user", "content": "Once more?"}
    answer(talk, talk.enqueue(CHAT, messages=[HELLO, HI, edited], replaces=second).generation_id)
    answer(talk, talk.enqueue(CHAT, messages=[HELLO, HI, edited, HI, edited]).generation_id)
    assert logged(client) == ["Hello?", "Again?", "Once more?", "Once more?"]


@pytest.mark.parametrize(("options", "expected"), [({}, True), ({"history": False}, False), ({"history": True}, True)])
def test_an_edited_prompt_has_its_context(talk: Spool, client: Redis, options: dict[str, Any], expected: bool) -> None:
    """Like another version of the answer, unless the caller says that it shall not."""
    first = talk.enqueue(CHAT, "Hello?").generation_id
    answer(talk, first)
    made = talk.enqueue(CHAT, "Hullo?", replaces=first, **options).generation_id
    assert request_of(client, made) == (["Hullo?"], expected)


def test_the_same_messages_again_are_no_edit(talk: Spool, client: Redis) -> None:
    """An app that sends the whole conversation says by `replaces` that it wants another answer to the same."""
    answer(talk, talk.enqueue(CHAT, messages=[HELLO]).generation_id)
    second = talk.enqueue(CHAT, messages=[HELLO, HI, AGAIN]).generation_id
    answer(talk, second)
    third = talk.enqueue(CHAT, messages=[HELLO, HI, AGAIN], replaces=second).generation_id
    assert logged(client) == ["Hello?", "Again?"]
    answer(talk, third)
    edited = {"role": "user", "content": "Once more?"}
    answer(talk, talk.enqueue(CHAT, messages=[HELLO, HI, edited], replaces=third).generation_id)
    turns = talk.snapshot(CHAT).conversation
    assert [[message.content for message in turn.messages] for turn in turns] == [["Hello?"], ["Once more?"]]


def test_what_cannot_be_replaced(talk: Spool, client: Redis, redis_url: str) -> None:
    """A clear error for each; nothing is written, no place is kept."""
    with pytest.raises(GenerationNotFound):
        talk.enqueue(CHAT, replaces="nothing")
    with spool_for(redis_url, keep_messages=False) as spool:
        old = spool.enqueue(CHAT, "Hello?").generation_id
    answer(talk, old)
    before = len(read_log(client))
    with pytest.raises(InvalidRequest, match="pass prompt= or messages="):
        talk.enqueue(CHAT, replaces=old)
    with pytest.raises(GenerationNotFound):
        talk.enqueue(CHAT, replaces="nothing")
    with pytest.raises(InvalidId):
        talk.enqueue(CHAT, replaces="not an id!")
    with pytest.raises(InvalidRequest, match="either prompt"):
        talk.enqueue(CHAT)
    with pytest.raises(InvalidRequest, match="either prompt"):
        talk.enqueue(CHAT, "x", messages=[HELLO], replaces=old)
    assert len(read_log(client)) == before
    assert talk.status(CHAT).active == ()
    edited = talk.enqueue(CHAT, "Hullo?", replaces=old).generation_id
    assert talk.snapshot(CHAT).answers[-1].replaces == old
    assert edited in talk.status(CHAT).active


def test_a_forged_message_is_a_corrupt_log(talk: Spool, client: Redis) -> None:
    """What another program wrote in place of a question cannot be asked again."""
    forged = '{"type":"message","generation":"g","id":"m","role":"user","content":""}'
    client.xadd(KEYS.log, {"t": 1, "e": forged}, id="1-0")
    client.set(KEYS.seq, 1, ex=60)
    client.expire(KEYS.log, 60)
    with pytest.raises(CorruptLog):
        talk.enqueue(CHAT, replaces="g")


def test_a_repeated_request_for_another_version_is_made_once(talk: Spool) -> None:
    """The same request id means the same version; with another `replaces`, it is another request."""
    first = talk.enqueue(CHAT, "Hello?").generation_id
    answer(talk, first)
    made = talk.enqueue(CHAT, replaces=first, request_id="again")
    assert talk.enqueue(CHAT, replaces=first, request_id="again") == made
    answer(talk, made.generation_id)
    with pytest.raises(RequestIdReused):
        talk.enqueue(CHAT, replaces=made.generation_id, request_id="again")


def test_the_beginning_of_an_answer_is_no_edit(talk: Spool, client: Redis) -> None:
    """Asked again with it, the question is the same."""
    prefill = {"role": "assistant", "content": "Well,"}
    first = talk.enqueue(CHAT, messages=[HELLO, prefill]).generation_id
    before = [entry for entry in read_log(client) if entry.type == "message"]
    for messages in (None, [HELLO, prefill]):
        talk.enqueue(CHAT, messages=messages, replaces=first, on_active="allow")
    assert [entry for entry in read_log(client) if entry.type == "message"] == before
