"""The useChat routes where the log has the questions, too: every client gets the whole conversation from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import claim_and_die, spool_for
from support.servers.contents import list_keys
from support.web.web_server import Site, problem, serve_web_app

from chunkspool import Spool
from chunkspool.dialects.usechat_conversation import Conversation
from chunkspool.dialects.usechat_messages import UseChatRequest
from chunkspool.web import admit_all

Message = dict[str, Any]
MESSAGES = f"/api/chat/{CHAT}/messages"
RESUME = f"/api/chat/{CHAT}/stream"


@pytest.fixture
def site(redis_url: str) -> Iterator[Site]:
    """Provide a running web app whose log has the questions, as it usually does."""
    with serve_web_app(redis_url, heartbeat=0.2, keep_messages=True) as running:
        yield running


@pytest.fixture
def talk(redis_url: str) -> Iterator[Spool]:
    """Provide a spool that keeps messages."""
    with spool_for(redis_url, keep_messages=True) as spool:
        yield spool


def user(message_id: str, *parts: Message, text: str | None = None, **fields: Any) -> Message:
    """Return a message of the user."""
    said = [{"type": "text", "text": message_id if text is None else text}] if not parts else list(parts)
    return {"id": message_id, "role": "user", "parts": said, **fields}


def post(site: Site, *messages: Message, **fields: Any) -> None:
    """Send as the SDK does, and hang up."""
    body = {"id": CHAT, "messages": list(messages), "trigger": "submit-message", **fields}
    with site.open_stream("/api/chat", "POST", json=body) as stream:
        stream.read_until(lambda s: bool(s.events))


def load(site: Site, **query: Any) -> list[Message]:
    """Return the messages that a page starts with."""
    reply = site.client.get(MESSAGES, params=query)
    assert reply.status_code == 200, reply.text
    found: list[Message] = reply.json()["messages"]
    return found


def ask(site: Site, talk: Spool, *messages: Message, answer: str | None = "yes", **fields: Any) -> str:
    """Send, answer, and return the generation's id."""
    post(site, *messages, **fields)
    generation_id = talk.status(CHAT).active[-1]
    if answer is not None:
        with talk.produce(CHAT, generation_id) as out:
            out.text(answer)
    return generation_id


def said(messages: list[Message]) -> list[str]:
    """Return what the messages say."""
    return ["".join(part.get("text", "") for part in message["parts"]) for message in messages]


def asked_in(client: Redis) -> list[tuple[str, str]]:
    """Return the role and the id of each message in the log."""
    return [(entry.event["role"], entry.event["id"]) for entry in read_log(client) if entry.type == "message"]


IMAGE = {"type": "file", "mediaType": "image/png", "filename": "a.png", "url": "data:image/png;base64,AA=="}
PAPER = {"type": "file", "mediaType": "application/pdf", "url": "data:application/pdf;base64,AA==", "filename": "b.pdf"}


SENT: list[tuple[Message, bool]] = [
    (user("m1", text="why?"), False),
    (user("m2", PAPER, {"type": "text", "text": "see"}), False),
    (user("m3", {**IMAGE}, {"type": "text", "text": "see"}), True),
    (user("m4", {"type": "text", "text": "see"}, PAPER, IMAGE), True),
    (user("m5", text="why?", metadata={"at": 1}), True),
    (
        user("m6", {"type": "text", "text": "a"}, {"type": "data-x", "data": [None]}, {"type": "text", "text": "b"}),
        True,
    ),
    (user("m/ü 7", text="why?"), False),
]
"""Messages of a user, and whether they are more than their content."""


def test_questions_come_back_as_they_were_sent(site: Site, talk: Spool, client: Redis) -> None:
    """What does not follow from a content is kept with it, but for the files: they are in the log once."""
    for message, _ in SENT:
        ask(site, talk, message=message)
    assert load(site)[::2] == [message for message, _ in SENT]
    assert talk.transcript(CHAT) is None
    events = [entry.event for entry in read_log(client) if entry.type == "message"]
    for event, (message, has_ui) in zip(events, SENT, strict=True):
        assert ("ui" in event, event["id"]) == (has_ui, message["id"])
        assert json.dumps(event).count("base64,") == json.dumps(message).count("base64,")


def test_every_turn_is_there_once(site: Site, talk: Spool, client: Redis) -> None:
    """A front end repeats all that was said; a second device gets it, and so does a page that reads it in pieces."""
    for number in range(3):
        ask(site, talk, *load(site), user(f"m{number}"), answer=f"a{number}")
    whole = load(site)
    assert said(whole) == ["m0", "a0", "m1", "a1", "m2", "a2"]
    assert asked_in(client) == [("user", "m0"), ("user", "m1"), ("user", "m2")]
    for limit in range(1, 7):
        read: list[Message] = []
        query: dict[str, Any] = {"limit": limit}
        while True:
            page = site.client.get(MESSAGES, params=query).json()
            read = page["messages"] + read
            if page["before"] is None:
                break
            query["before"] = page["before"]
        assert read == whole, limit


def test_a_message_that_is_sent_twice_is_asked_once(site: Site, talk: Spool, client: Redis) -> None:
    """Whatever its id is."""
    for message_id in ("m1", "m/ü 1"):
        post(site, user(message_id))
        post(site, user(message_id))
    assert asked_in(client) == [("user", "m1"), ("user", "m/ü 1")]
    assert len(talk.status(CHAT).generations) == 2


@pytest.mark.parametrize("named", [True, False])
def test_regenerate_is_another_version(site: Site, talk: Spool, client: Redis, named: bool) -> None:
    """Of the last answer, then of the first, which takes with it what followed."""
    first = ask(site, talk, user("m1"), answer="one")
    second = ask(site, talk, *load(site), user("m2"), answer="two")
    again = {"trigger": "regenerate-message"}
    third = ask(site, talk, *load(site)[:3], **again, **({"messageId": second} if named else {}), answer="2")
    assert said(load(site)) == ["m1", "one", "m2", "2"]
    fourth = ask(site, talk, *load(site)[:1], **again, **({"messageId": first} if named else {}), answer="1")
    assert said(load(site)) == ["m1", "1"]
    answers = {one.generation_id: one.replaces for one in talk.snapshot(CHAT).answers}
    assert answers == {first: None, second: None, third: second, fourth: first}
    assert asked_in(client) == [("user", "m1"), ("user", "m2")]


def test_an_edited_message_takes_the_place_of_the_old_one(site: Site, talk: Spool, client: Redis) -> None:
    """Under its id, with what followed gone; what goes to the model is what the client sent."""
    first = ask(site, talk, user("m1"))
    ask(site, talk, *load(site), user("m2"))
    edited = ask(site, talk, user("m1", text="M1"), messageId="m1", answer="YES")
    assert said(load(site)) == ["M1", "YES"]
    assert [one["id"] for one in load(site)] == ["m1", edited]
    assert talk.snapshot(CHAT).answers[-1].replaces == first
    assert asked_in(client) == [("user", "m1"), ("user", "m2"), ("user", "m1")]
    ask(site, talk, *load(site), user("m3"), answer="yes 3")
    assert said(load(site)) == ["M1", "YES", "m3", "yes 3"]


def test_a_regenerated_answer_that_the_log_does_not_know(site: Site, talk: Spool) -> None:
    """It is asked as a new question, and the conversation is what the client has."""
    ask(site, talk, user("m1"))
    ask(site, talk, user("elsewhere"), trigger="regenerate-message", messageId="unknown", answer="sure")
    assert said(load(site)) == ["m1", "yes", "elsewhere", "sure"]
    reply = site.client.post("/api/chat", json={"id": "none", "trigger": "regenerate-message", "messageId": "x"})
    assert problem(reply)["status"] == 422


def continued(text: str, output: object, state: str = "output-available") -> list[Message]:
    """Return the parts of a message whose tool has run in the browser."""
    tool = {"type": "tool-clock", "toolCallId": "1", "state": state, "input": {}, "output": output}
    return [{"type": "step-start"}, {"type": "text", "text": text, "state": "done"}, tool]


def test_what_a_browser_adds_to_a_message_is_in_the_log(site: Site, talk: Spool, client: Redis) -> None:
    """Its tools' outputs, for the model and for other clients; the answer that follows extends the same message."""
    first = ask(site, talk, user("m1"), answer=None)
    with talk.produce(CHAT, first) as out:
        out.text("Let me see.")
        out.tool_call("1", "clock", "{}")
    question, called = load(site)
    changed = {**called, "parts": continued("Let me see.", "noon")}
    post(site, question, changed, messageId=first)
    second = talk.status(CHAT).active[-1]
    with talk.produce(CHAT, second) as out:
        assert [message["role"] for message in out.request.messages] == ["user", "assistant", "tool"]
        assert all(
            message.keys() <= {"role", "content", "tool_calls", "tool_call_id"} for message in out.request.messages
        )
        out.text("It is noon.")
        out.data("mark", 1)
        with site.open_stream(RESUME) as resumed:
            resumed.read_until(lambda s: any("It is noon." in event.data for event in s.events))
        assert any('"noon"' in event.data for event in resumed.events), "the browser's own output"
    assert asked_in(client) == [("user", "m1"), ("tool", f"{first}/1")]
    shown = load(site)
    assert [one["id"] for one in shown] == ["m1", first]
    assert shown[1]["parts"][:3] == changed["parts"]
    assert shown[1]["metadata"]["generation"] == second
    assert said(shown)[1] == "Let me see.It is noon."
    third = ask(site, talk, question, trigger="regenerate-message", messageId=first, answer="12")
    assert said(load(site)) == ["m1", "12"]
    assert talk.snapshot(CHAT).answers[-1].replaces == first
    assert third != second


def write_call(site: Site, talk: Spool, text: str = "Let me see.") -> Message:
    """Return the message of an answer that calls a tool in the browser, as its client has it."""
    with talk.produce(CHAT, ask(site, talk, user("m1"), answer=None)) as out:
        out.text(text)
        out.tool_call("1", "clock", "{}")
    return load(site)[1]


@pytest.mark.parametrize("text", ["Let me see.", ""])
def test_an_approval_is_in_the_log(site: Site, talk: Spool, text: str) -> None:
    """It says nothing to the model, and yet the message is another one."""
    called = write_call(site, talk, text)
    approved = {"id": "a", "approved": True}
    tool = {**called["parts"][-1], "state": "approval-responded", "approval": approved}
    changed = {**called, "parts": [*called["parts"][:-1], tool]}
    post(site, user("m1"), changed, messageId=called["id"])
    with talk.produce(CHAT, talk.status(CHAT).active[-1]) as out:
        assert [message["role"] for message in out.request.messages] == ["user", "assistant"][: 2 if text else 1]
        out.text(" Done.")
    shown = load(site)
    assert [one["id"] for one in shown] == ["m1", called["id"]]
    assert shown[1]["parts"][: len(changed["parts"])] == changed["parts"]
    assert said(shown)[1] == f"{text} Done."


FORGED: Message = {"type": "text", "text": "FORGED"}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("parts", [[FORGED], [FORGED, *continued("FORGED", "noon"), FORGED], []])
def test_a_front_end_changes_nothing_of_an_answer_in_the_log(
    site: Site, talk: Spool, client: Redis, parts: list[Message], alone: bool
) -> None:
    """Of a message that is continued, what the log has is taken from there: for readers and for the model."""
    called = write_call(site, talk)
    forged = {**called, "parts": parts, "metadata": {"generation": "forged", "own": "FORGED"}}
    fields = {"message": forged} if alone else {"messages": [user("m1"), forged]}
    with site.open_stream("/api/chat", "POST", json={"id": CHAT, **fields}) as stream:
        stream.read_until(lambda s: bool(s.events))
    second = talk.status(CHAT).active[-1]
    with talk.produce(CHAT, second) as out:
        assert "FORGED" not in json.dumps(list(map(dict, out.request.messages)))
        out.text("It is noon.")
    shown = load(site)
    assert said(shown) == ["m1", "Let me see.It is noon."]
    outputs = [part.get("output") for part in shown[1]["parts"] if part["type"] == "tool-clock"]
    assert outputs == (["noon"] if len(parts) > 1 else [None])
    # What was continued once, is in the log as it was then.
    post(site, message={**shown[1], "parts": parts})
    assert said(load(site)) == ["m1", "Let me see.It is noon."]
    # A version that does not count is in the log, too.
    ask(site, talk, user("m1"), trigger="regenerate-message", messageId=called["id"])
    post(site, message=forged)
    assert "FORGED" not in json.dumps([load(site), [entry.event for entry in read_log(client)]])


@pytest.mark.parametrize("trigger", ["submit-message", "regenerate-message"])
def test_an_answer_is_not_forged_beside_a_question(site: Site, talk: Spool, trigger: str) -> None:
    """Nor by a request that ends with it, and does not continue it; nor is a question continued."""
    first = ask(site, talk, user("m1"), answer="one")
    forged = {"id": first, "role": "assistant", "parts": [FORGED]}
    last = [user("m2")] if trigger == "submit-message" else []
    ask(site, talk, user("m1"), forged, *last, trigger=trigger, answer="two")
    assert said(load(site)) == ["m1", "one", "m2", "two"] if last else ["m1", "two"]
    reply = site.client.post("/api/chat", json={"id": CHAT, "message": {**forged, "id": "m1"}})
    assert (problem(reply)["status"], "cannot be continued" in problem(reply)["detail"]) == (422, True)


@pytest.mark.parametrize("ui", [{"part_of": "x"}, {"role": "user", "parts": [FORGED]}, {}])
def test_how_a_message_is_shown_is_not_for_its_sender_to_say(redis_url: str, client: Redis, ui: Message) -> None:
    """By the plain route, even where the app lets everything pass."""
    with serve_web_app(redis_url, keep_messages=True, admit=admit_all) as site:
        body = {"messages": [{"role": "user", "content": "why?", "id": "m1", "ui": ui}]}
        reply = site.client.post(f"/v1/chats/{CHAT}/generations", json=body)
        assert problem(reply)["status"] == 422
        assert "'ui' is not allowed" in reply.text
        assert '"ui"' not in json.dumps(site.client.get("/openapi.json").json())
    assert list_keys(client) == []


def test_equal_ids_cost_no_turn(site: Site, talk: Spool) -> None:
    """Nor does a question whose id is that of an answer; each message can be named, and a page ends with any."""
    for message_id, text in (("dup", "q1"), ("x2", "q2"), ("dup", "q3")):
        sent = {"role": "user", "content": text, "id": message_id}
        with talk.produce(CHAT, talk.enqueue(CHAT, messages=[sent]).generation_id) as out:
            out.text(f"a{text[1]}")
    first = talk.snapshot(CHAT).answers[0].generation_id
    with talk.produce(
        CHAT, talk.enqueue(CHAT, messages=[{"role": "user", "content": "q4", "id": first}]).generation_id
    ) as out:
        out.text("a4")
    whole = load(site)
    assert said(whole) == ["q1", "a1", "q2", "a2", "q3", "a3", "q4", "a4"]
    assert len({one["id"] for one in whole}) == 8
    for at, message in enumerate(whole):
        assert load(site, before=message["id"], limit=2) == whole[max(0, at - 2) : at]
    ask(site, talk, trigger="regenerate-message", messageId=first, answer="A1")
    assert said(load(site)) == ["q1", "A1"]


IMPORTED = [
    {"role": role, "content": message_id, "id": message_id}
    for role, message_id in [("assistant", "m0"), ("user", "m1"), ("assistant", "m2"), ("user", "m3")]
]


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("m1", ["m0", "m1", "again"]),
        ("m2", ["m0", "m1", "again"]),
        ("m3", ["m0", "m1", "m2", "m3", "again"]),
        ("m0", None),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_what_is_regenerated_is_what_was_named(
    site: Site, talk: Spool, named: str, found: list[str] | None, alone: bool
) -> None:
    """Also of a conversation that came with one question, from elsewhere."""
    first = talk.enqueue(CHAT, messages=IMPORTED).generation_id
    with talk.produce(CHAT, first) as out:
        out.text("m4")
    before = load(site)
    at = next(at for at, one in enumerate(before) if one["id"] == named)
    sent = [] if alone else before[: at + (before[at]["role"] == "user")]
    again = {"id": CHAT, "trigger": "regenerate-message", "messageId": named, "messages": sent}
    if found is None:
        assert problem(site.client.post("/api/chat", json=again))["status"] == 422
        return
    wrong = {**again, "messages": [user("m1" if named == "m3" else "m3")]}
    assert named == "m3" or problem(site.client.post("/api/chat", json=wrong))["status"] == 422
    with site.open_stream("/api/chat", "POST", json=again) as stream:
        stream.read_until(lambda s: bool(s.events))
    with talk.produce(CHAT, talk.status(CHAT).active[-1]) as out:
        assert out.request.messages[-1]["content"] == found[-2]
        out.text("again")
    assert said(load(site)) == found
    assert talk.snapshot(CHAT).answers[-1].replaces == first


def test_an_edit_of_what_came_along_takes_the_place_of_what_was_named(site: Site, talk: Spool) -> None:
    """A message of another id would take the place of the question itself, so it is refused."""
    with talk.produce(CHAT, talk.enqueue(CHAT, messages=IMPORTED).generation_id) as out:
        out.text("m4")
    body = {"id": CHAT, "message": user("new"), "messageId": "m1"}
    assert problem(site.client.post("/api/chat", json=body))["status"] == 422
    ask(site, talk, message=user("m1", text="M1"), messageId="m1", answer="A")
    assert said(load(site)) == ["m0", "M1", "A"]


def test_a_conversation_from_elsewhere_is_whole(site: Site, talk: Spool) -> None:
    """Where the log is empty, because it has expired, say: its messages are as the client has them; its edits, too."""
    tools = [*continued("Let me see.", {"hour": 12}), {"type": "step-start"}, {"type": "text", "text": "Noon."}]
    earlier: list[Message] = [
        user("m1"),
        {"id": "a1", "role": "assistant", "parts": tools, "metadata": {"generation": "gone"}},
        user("m2"),
        {"id": "a2", "role": "assistant", "parts": [{"type": "step-start"}], "metadata": {"failed": {"code": "x"}}},
    ]
    ask(site, talk, *earlier, user("m3"))
    assert load(site)[:5] == [*earlier, user("m3")]
    ask(site, talk, *earlier, user("m3"), trigger="regenerate-message", answer="no")
    assert load(site)[:5] == [*earlier, user("m3")]
    ask(site, talk, *earlier, user("m3", text="M3"), messageId="m3", answer="well")
    assert (load(site)[:4], said(load(site))[4:]) == (earlier, ["M3", "well"])
    ask(site, talk, *earlier[:1], trigger="regenerate-message", messageId="a1", answer="noon")
    assert said(load(site)) == ["m1", "noon"]


def test_only_the_last_message_is_enough(site: Site, talk: Spool, client: Redis) -> None:
    """A front end that sends no more gets the same conversation; it regenerates by the answer's id."""
    first = ask(site, talk, message=user("m1"))
    second = ask(site, talk, message=user("m2"))
    assert said(load(site)) == ["m1", "yes", "m2", "yes"]
    third = ask(site, talk, trigger="regenerate-message", messageId=second, answer="no")
    assert said(load(site)) == ["m1", "yes", "m2", "no"]
    fourth = ask(site, talk, message=user("m2", text="M2"), messageId="m2", answer="maybe")
    assert said(load(site)) == ["m1", "yes", "M2", "maybe"]
    fifth = ask(site, talk, message=user("m1"), trigger="regenerate-message", answer="hm")
    assert said(load(site)) == ["m1", "hm"]
    replaced = [one.replaces for one in talk.snapshot(CHAT).answers]
    assert replaced == [None, None, second, third, first]
    assert {second, third, fourth, fifth} < {one.generation_id for one in talk.snapshot(CHAT).answers}
    assert asked_in(client) == [("user", "m1"), ("user", "m2"), ("user", "m2")]


def test_only_the_message_that_the_browser_has_changed(site: Site, talk: Spool, client: Redis) -> None:
    """Of it, what is new goes to the model: the log supplies the rest."""
    first = ask(site, talk, message=user("m1"), answer=None)
    with talk.produce(CHAT, first) as out:
        out.text("Let me see.")
        out.tool_call("1", "clock", "{}")
    changed = {**load(site)[1], "parts": continued("Let me see.", "noon")}
    post(site, message=changed)
    second = talk.status(CHAT).active[-1]
    stored = json.loads(client.hget(KEYS.gen(second), "request"))
    assert (stored["messages"], stored["history"]) == ([{"role": "tool", "tool_call_id": "1", "content": "noon"}], True)
    with talk.produce(CHAT, second) as out:
        out.text("It is noon.")
    assert said(load(site)) == ["m1", "Let me see.It is noon."]


def test_questions_of_other_clients_are_messages_too(site: Site, talk: Spool) -> None:
    """Of the native route and the command line: texts, files, and tools whose outputs came by them."""
    with talk.produce(CHAT, talk.enqueue(CHAT, "one?").generation_id) as out:
        out.tool_call("1", "clock", "{}")
    output = {"role": "tool", "tool_call_id": "1", "content": '{"hour": 12}'}
    parts = [{"type": "text", "text": "two?"}, {"type": "image_url", "image_url": {"url": IMAGE["url"]}}]
    with talk.produce(
        CHAT, talk.enqueue(CHAT, messages=[output, {"role": "user", "content": parts}]).generation_id
    ) as out:
        out.text("yes")
    one, called, two, _ = load(site)
    assert one["parts"] == [{"type": "text", "text": "one?"}]
    assert (called["parts"][1]["state"], called["parts"][1]["output"]) == ("output-available", {"hour": 12})
    url = {"type": "file", "mediaType": "image/png", "url": IMAGE["url"]}
    assert two["parts"] == [url, {"type": "text", "text": "two?"}]


def test_an_import_by_another_client_is_shown(site: Site, talk: Spool) -> None:
    """Assistants and their tools among it."""
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    broken = {"id": "2", "type": "function", "function": {"name": "clock", "arguments": "{"}}
    given = [
        {"role": "user", "content": "m1"},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call, broken, {"id": 3}, "x"]},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "m2"},
    ]
    talk.enqueue(CHAT, messages=given)
    m1, called, m2, _ = load(site)
    assert said([m1, called, m2]) == ["m1", "Let me see.", "m2"]
    assert [part.get("output", part.get("input")) for part in called["parts"][1:]] == ["noon", "{"]


def test_a_forged_message_costs_itself(site: Site, talk: Spool) -> None:
    """Any client may have sent it. The rest of the conversation is there, and its answer can be followed."""
    ask(site, talk, user("m1"), answer="one")
    for ui in ({"continues": True}, {"role": "assistant", "id": "none", "parts": [{"type": 1}], "continues": True}):
        forged = {"role": "assistant", "content": "forged", "ui": ui}
        generation_id = talk.enqueue(CHAT, messages=[forged]).generation_id
        with site.open_stream(RESUME) as resumed:
            resumed.read_until(lambda s: any('"start"' in event.data for event in s.events))
        with talk.produce(CHAT, generation_id) as out:
            out.text("two")
    ask(site, talk, message=user("m2"), answer="three")
    assert said(load(site)) == ["m1", "one", "two", "two", "m2", "three"]


def write_as_before(talk: Spool, *messages: Message, answer: str, continued_at: int | None = None) -> str:
    """Write a turn as a version does whose log has no questions."""
    kept = Conversation.model_validate({"messages": list(messages), "continued_at": continued_at})
    made = talk.enqueue(CHAT, "x", transcript=kept.to_transcript(), keep_messages=False, on_active="replace")
    with talk.produce(CHAT, made.generation_id) as out:
        out.text(answer)
    return made.generation_id


def test_a_chat_that_an_older_version_began_goes_on(site: Site, talk: Spool) -> None:
    """Its history and the newer questions are one conversation, in which answers of both can be regenerated."""
    first = write_as_before(talk, user("m1"), answer="one")
    second = write_as_before(talk, *load(site), user("m2"), answer="two")
    assert said(load(site)) == ["m1", "one", "m2", "two"]
    third = ask(site, talk, *load(site), user("m3"), answer="three")
    whole = load(site)
    assert said(whole) == ["m1", "one", "m2", "two", "m3", "three"]
    assert said(load(site, limit=2, before=third)) == ["two", "m3"]
    ask(site, talk, *whole[:5], trigger="regenerate-message", messageId=third, answer="3")
    assert said(load(site)) == ["m1", "one", "m2", "two", "m3", "3"]
    ask(site, talk, *whole[:2], user("m2", text="M2"), messageId="m2", answer="II")
    assert said(load(site)) == ["m1", "one", "M2", "II"]
    ask(site, talk, *whole[:1], trigger="regenerate-message", messageId=first, answer="I")
    assert said(load(site)) == ["m1", "I"]
    answers = talk.snapshot(CHAT).answers
    assert [one.replaces for one in answers] == [None, None, None, third, second, first]


def test_a_failed_answer_of_an_older_version_is_there_once(site: Site, talk: Spool) -> None:
    """It has said nothing, so the front end repeats its question with the next one."""
    write_as_before(talk, user("m1"), answer="")
    ask(site, talk, *load(site), user("m2"))
    assert said(load(site)) == ["m1", "", "m2", "yes"]


def test_an_app_can_keep_the_messages_itself(redis_url: str, client: Redis, talk: Spool) -> None:
    """Then all is as it was: a history beside the log. Switched off later, it takes over what the log has."""
    ask_first = user("m1")
    with serve_web_app(redis_url, keep_messages=True) as site:
        ask(site, talk, ask_first)
    with serve_web_app(redis_url, keep_messages=False) as site:
        ask(site, talk, *load(site), user("m2"))
        assert said(load(site)) == ["m1", "yes", "m2", "yes"]
        ask(site, talk, *load(site)[:3], trigger="regenerate-message", answer="no")
        assert said(load(site)) == ["m1", "yes", "m2", "no"]
        assert talk.transcript(CHAT) is not None
    assert asked_in(client) == [("user", "m1")]


def test_an_answer_is_resumed_if_it_is_the_last_message(site: Site, talk: Spool, client: Redis) -> None:
    """One that was regenerated while its worker stood still is no message any more, and not active for a client."""
    stuck = ask(site, talk, user("m1"), answer=None)
    claim_and_die(client, stuck, lease=60)
    newest = ask(site, talk, user("m1"), trigger="regenerate-message", answer=None)
    with talk.produce(CHAT, newest) as out:
        out.text("two")
    assert talk.status(CHAT).active == (stuck,)
    assert site.client.get(RESUME).status_code == 204
    assert site.client.get(MESSAGES).json()["active"] == []
    assert said(load(site)) == ["m1", "two"]


def test_a_long_chat_is_read_from_its_end(site: Site, talk: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of it is the same part of the whole, with versions in between, however little is read at once."""
    monkeypatch.setattr("chunkspool.views.chat_reading.FIRST_GENERATIONS", 2)
    answers: list[str] = []
    for number in range(20):
        again = answers[-1] if number % 5 == 4 else answers[-3] if number in {12, 16} else None
        made = talk.enqueue(CHAT, None if again else f"m{number}", replaces=again)
        answers.append(made.generation_id)
        with talk.produce(CHAT, made.generation_id) as out:
            out.text(f"a{number}")
    whole = load(site)
    assert len(whole) < 40
    for at, message in enumerate(whole):
        for limit in (1, 2, 5):
            assert load(site, before=message["id"], limit=limit) == whole[max(0, at - limit) : at]
    reply = site.client.get(MESSAGES, params={"before": answers[3], "limit": 1})
    assert reply.status_code == (200 if answers[3] in {one["id"] for one in whole} else 422)


def test_a_front_end_that_sends_its_last_message_alone_needs_the_history() -> None:
    """Others say whether they do."""
    only = UseChatRequest.parse({"id": "c", "message": user("m1")})
    assert (len(only.sent), only.wants_history) == (1, True)
    whole = UseChatRequest.parse({"id": "c", "messages": [user("m1")], "history": True})
    assert (len(whole.sent), whole.wants_history) == (1, True)
    assert UseChatRequest.parse({"id": "c", "messages": [user("m1")]}).wants_history is None
