"""The useChat routes: send, resume and stop, called as by an unmodified AI SDK front end."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import async_spool_for, claim_and_die
from support.web.sse import SseEvent
from support.web.ui_message import ClientMessage, parts_of
from support.web.web_server import Site, SseStream, problem, serve_app

from chunkspool import AsyncSpool, Spool
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.web import allow_all, create_app

RESUME = f"/api/chat/{CHAT}/stream"


def body(text: str = "hello", message_id: str = "m1", **fields: Any) -> dict[str, Any]:
    """Return the body that the SDK sends for a new message."""
    message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": text}]}
    return {"id": CHAT, "messages": [message], "trigger": "submit-message", **fields}


def active_id(spool: Spool) -> str:
    """Return the id of the chat's only active generation."""
    (generation_id,) = spool.status(CHAT).active
    return generation_id


def message_of(events: list[SseEvent]) -> ClientMessage:
    """Return the message that the SDK would make of the events."""
    return ClientMessage().take(parts_of(b"".join(f"data: {event.data}\n\n".encode() for event in events)))


def has_event_with(stream: SseStream, piece: str) -> bool:
    """Return whether an event that contains `piece` has arrived."""
    return any(piece in event.data for event in stream.events)


def test_a_message_is_sent_and_its_answer_streams_back(site: Site, spool: Spool) -> None:
    """One POST: the history becomes the model's messages; the answer streams as parts with the protocol's headers."""
    with site.open_stream("/api/chat", "POST", json=body("why?")) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        with spool.produce(CHAT, active_id(spool)) as out:
            assert list(out.request.messages) == [{"role": "user", "content": "why?"}]
            out.text("because")
            stream.read_until(lambda s: has_event_with(s, "because"))
            out.usage(1, 2)
        events = stream.read_to_end().events
    assert stream.response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert stream.response.headers["content-type"] == "text/event-stream"
    assert events[-1].data == "[DONE]"
    message = message_of(events)
    assert [part.get("text") for part in message.parts] == [None, "because"]
    assert message.id == message.metadata["generation"]
    assert (message.finish_reason, message.metadata["usage"]) == ("stop", {"inputTokens": 1, "outputTokens": 2})


def test_a_resume_replays_from_the_beginning_merged_and_then_live(site: Site, spool: Spool) -> None:
    """Adjacent deltas of the replay arrive as one; later deltas arrive as they are written."""
    with site.open_stream("/api/chat", "POST", json=body()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
    with spool.produce(CHAT, active_id(spool)) as out:
        for number in range(5000):
            out.text(f"{number} ")
            if number % 50 == 0:
                out.data("mark", number)  # else the producer would merge most of the text itself
        out.data("mark", "last")
        wait_for_event_with(spool, "last")
        with site.open_stream(RESUME) as resumed:
            resumed.read_until(lambda s: has_event_with(s, "last"))
            deltas = [event for event in resumed.events if '"text-delta"' in event.data]
            out.text("live")
            resumed.read_until(lambda s: has_event_with(s, "live"))
            out.__exit__(None, None, None)
            message = message_of(resumed.read_to_end().events)
    assert len(deltas) == 101, "one for each stretch between two marks"
    texts = [part["text"] for part in message.parts if part["type"] == "text"]
    assert texts == ["".join(f"{number} " for number in range(5000)) + "live"]


def wait_for_event_with(spool: Spool, piece: str) -> None:
    """Wait until the log has an event that contains `piece`."""
    with spool.subscribe(CHAT, until="forever") as entries:
        assert any(piece.encode() in entry.raw for entry in entries)


def test_nothing_to_resume_is_204(site: Site, spool: Spool) -> None:
    """Both before the first message and after the answer: a front end asks on every page load."""
    assert site.client.get(RESUME).status_code == 204
    made = site.ask(CHAT)
    with spool.produce(CHAT, made["generation"]):
        pass
    assert site.client.get(RESUME).status_code == 204


def test_a_restart_reaches_a_client_that_has_the_void_text(site: Site, spool: Spool, client: Redis) -> None:
    """A client that stayed connected and one that resumes both end with the same visible message."""
    with site.open_stream("/api/chat", "POST", json=body()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        generation_id = active_id(spool)
        claim_and_die(client, generation_id, lease=60)
        void = encode_delta(generation_id, "text", "void")
        Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=(void,)))
        stream.read_until(lambda s: has_event_with(s, "void"))
        with spool.produce(CHAT, generation_id, wait=10) as out:
            assert out.attempt == 2
            out.text("good")
            stream.read_until(lambda s: has_event_with(s, "good"))
            with site.open_stream(RESUME) as resumed:
                resumed.read_until(lambda s: has_event_with(s, "good"))
                out.__exit__(None, None, None)
                late, there = message_of(resumed.read_to_end().events), message_of(stream.read_to_end().events)
    assert late.visible() == there.visible()
    assert [part["text"] for part in there.parts if part["type"] == "text"] == ["void", "good"]
    assert [part["text"] for part in there.visible() if part["type"] == "text"] == ["good"]
    assert there.metadata["attempt"] == 2


def test_stop_stops_the_generation_not_only_the_stream(site: Site, spool: Spool, client: Redis) -> None:
    """202, an abort for the client, and `generation.stopped` in the log."""
    with site.open_stream("/api/chat", "POST", json=body()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        reply = site.client.post(f"/api/chat/{CHAT}/stop")
        assert (reply.status_code, reply.json()["stops"][0]["outcome"]) == (202, "stopped")
        message = message_of(stream.read_to_end().events)
    assert message.aborted
    assert message.metadata["stopped"] == {"by": "user", "reason": None}
    assert read_log(client)[-1].type == "generation.stopped"
    assert not spool.status(CHAT).active


def test_hanging_up_does_not_stop_the_generation(site: Site, spool: Spool, client: Redis) -> None:
    """The SDK's own stop() only hangs up: the answer is completed and is there after a reload."""
    with site.open_stream("/api/chat", "POST", json=body()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
    with spool.produce(CHAT, active_id(spool)) as out:
        out.text("still here")
    assert read_log(client)[-1].type == "generation.completed"


def test_a_message_that_is_sent_twice_is_answered_once(site: Site, spool: Spool) -> None:
    """A retry joins the same generation; regenerating starts another one and stops the first."""
    for _ in range(2):
        with site.open_stream("/api/chat", "POST", json=body()) as stream:
            stream.read_until(lambda s: has_event_with(s, '"start"'))
    first = active_id(spool)
    regenerate = body(trigger="regenerate-message", messageId="m1")
    with site.open_stream("/api/chat", "POST", json=regenerate) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
    assert active_id(spool) != first
    assert [generation.state for generation in spool.status(CHAT).generations] == ["stopped", "queued"]


def test_bad_histories_are_rejected(site: Site, client: Redis) -> None:
    """No messages, only empty ones, a wrong role, an invalid chat id: 422, and nothing is written."""
    bodies: list[dict[str, Any]] = [
        body("", "m1"),
        {**body(), "messages": []},
        {**body(), "messages": [{"id": "m", "role": "wizard", "parts": []}]},
        {**body(), "messages": "x"},
        {**body(), "id": "a/b"},
        {**body(), "trigger": "guess"},
        {},
    ]
    for bad in bodies:
        reply = site.client.post("/api/chat", json=bad)
        assert reply.status_code == 422, bad
        problem(reply)
    assert not client.exists(KEYS.log)


def test_message_ids_that_are_no_request_ids_are_accepted(site: Site, spool: Spool) -> None:
    """Front ends may use any text as an id."""
    with site.open_stream("/api/chat", "POST", json=body(message_id="mess age/ü")) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
    assert active_id(spool)


MESSAGES = f"/api/chat/{CHAT}/messages"


def load(site: Site, **query: Any) -> dict[str, Any]:
    """Return what the route of the messages answers."""
    reply = site.client.get(MESSAGES, params=query)
    assert reply.status_code == 200, reply.text
    assert reply.headers["cache-control"] == "no-store"
    loaded: dict[str, Any] = reply.json()
    return loaded


def ask_by_client(site: Site, spool: Spool, **fields: Any) -> str:
    """Send as the SDK does, hang up, and return the generation's id."""
    with site.open_stream("/api/chat", "POST", json=body(**fields)) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
    return active_id(spool)


def text_parts(text: str, state: str = "done") -> list[dict[str, Any]]:
    """Return the parts of an answer of one text."""
    return [{"type": "step-start"}, {"type": "text", "text": text, "state": state}]


def test_the_messages_are_the_clients_history_and_what_was_answered(site: Site, spool: Spool) -> None:
    """The questions as the client sent them, with its own metadata; then the answer, also while it is being written."""
    question = {"id": "m1", "role": "user", "metadata": {"at": 1}, "parts": [{"type": "text", "text": "why?"}]}
    generation_id = ask_by_client(site, spool, messages=[question])
    assert load(site)["messages"][0] == question
    with spool.produce(CHAT, generation_id) as out:
        out.text("because")
        out.data("mark", 1)
        wait_for_event_with(spool, "mark")
        halfway = load(site)
        out.text(" of air")
    assert halfway["active"] == [generation_id]
    assert halfway["messages"][1]["parts"][1] == {"type": "text", "text": "because", "state": "streaming"}
    loaded = load(site)
    assert loaded["active"] == []
    answer = loaded["messages"][1]
    assert (answer["id"], answer["role"], answer["metadata"]["generation"]) == (
        generation_id,
        "assistant",
        generation_id,
    )
    assert [part.get("text") for part in answer["parts"]] == [None, "because of air", None]


def test_a_later_history_replaces_the_earlier_one(site: Site, spool: Spool) -> None:
    """Regenerated and edited messages are gone, as they are from the client; of the histories, one is kept."""
    with spool.produce(CHAT, ask_by_client(site, spool)) as out:
        out.text("first")
    second = ask_by_client(site, spool, trigger="regenerate-message", messageId="x")
    with spool.produce(CHAT, second) as out:
        out.text("second")
    loaded = load(site)["messages"]
    assert [message["id"] for message in loaded] == ["m1", second]
    assert loaded[1]["parts"] == text_parts("second")


def test_answers_that_no_front_end_asked_for_are_messages_too(site: Site, spool: Spool) -> None:
    """Those of the other routes, before the first history and after it: the log holds no questions."""
    for text in ("one", "two"):
        with spool.produce(CHAT, spool.enqueue(CHAT, "x").generation_id) as out:
            out.text(text)
    assert [message["parts"] for message in load(site)["messages"]] == [text_parts("one"), text_parts("two")]
    with spool.produce(CHAT, ask_by_client(site, spool)) as out:
        out.text("three")
    with spool.produce(CHAT, spool.enqueue(CHAT, "x").generation_id) as out:
        out.text("four")
    assert [message["parts"] for message in load(site)["messages"]] == [
        [{"type": "text", "text": "hello"}],
        text_parts("three"),
        text_parts("four"),
    ]


def test_a_late_event_of_a_replaced_answer_is_no_message(site: Site, spool: Spool) -> None:
    """A worker hears of the stop after the next question came; what it wrote is in the client's history, or gone."""
    with spool.produce(CHAT, ask_by_client(site, spool)) as out:
        out.text("old")
        out.data("mark", "old")
        wait_for_event_with(spool, "old")
        with site.open_stream("/api/chat", "POST", json=body("and?", "m2")) as stream:
            stream.read_until(lambda s: has_event_with(s, '"start"'))
    (newest,) = spool.status(CHAT).active
    assert [message["id"] for message in load(site)["messages"]] == ["m2", newest]


def test_an_answer_that_was_replaced_is_not_resumed(site: Site, spool: Spool, client: Redis) -> None:
    """Its worker stands still and does not hear of the stop, while the next answer has come and gone."""
    replaced = ask_by_client(site, spool)
    claim_and_die(client, replaced, lease=60)
    with site.open_stream("/api/chat", "POST", json=body("and?", "m2")) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        newest = spool.status(CHAT).active[-1]
        with spool.produce(CHAT, newest):
            pass
    assert spool.status(CHAT).active == (replaced,)
    assert site.client.get(RESUME).status_code == 204
    loaded = load(site)
    assert (loaded["active"], [message["id"] for message in loaded["messages"]]) == ([], ["m2", newest])


def test_a_chat_that_does_not_exist_has_no_messages(site: Site) -> None:
    """A page asks before its first message is sent, and an erased chat is gone."""
    assert load(site) == {"messages": [], "active": [], "before": None}
    site.ask(CHAT)
    assert load(site)["messages"]
    site.client.delete(f"/v1/chats/{CHAT}")
    assert load(site) == {"messages": [], "active": [], "before": None}


def test_a_transcript_of_another_client_is_left_alone(site: Site, spool: Spool) -> None:
    """What an app stored by itself is not taken for a history."""
    for transcript in ("text", {"messages": "x"}, {"messages": [], "continued_at": 3}, {"messages": [{"role": 1}]}):
        with spool.produce(CHAT, spool.enqueue(CHAT, "x", transcript=transcript).generation_id):
            pass
        assert all(message["role"] == "assistant" for message in load(site)["messages"])


def test_a_corrupt_entry_costs_one_event_of_the_messages(site: Site, spool: Spool, client: Redis) -> None:
    """What can be read is shown, as in a snapshot."""
    generation_id = ask_by_client(site, spool)
    with spool.produce(CHAT, generation_id) as out:
        out.text("before")
        out.data("mark", 1)
        wait_for_event_with(spool, "mark")
        client.xadd(KEYS.log, {"t": "1", "e": "no JSON"}, id=f"{client.incr(KEYS.seq)}-0")
        out.text(" after")
    assert [part.get("text") for part in load(site)["messages"][1]["parts"]] == [None, "before after", None]


def test_messages_are_json_whatever_a_tool_has_written(site: Site, spool: Spool, client: Redis) -> None:
    """Also a number that JSON cannot hold."""
    generation_id = ask_by_client(site, spool)
    claim_and_die(client, generation_id, lease=60)
    huge = b'{"type":"data","generation":"%b","name":"n","value":1e400}' % generation_id.encode()
    Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=60_000, events=(huge,)))
    assert load(site)["messages"][1]["parts"][-1] == {"type": "data-n", "data": None}


def continuation() -> dict[str, Any]:
    """Return what the SDK sends after a tool has run in the browser."""
    tool = {"type": "tool-clock", "toolCallId": "1", "state": "output-available", "input": {}, "output": "noon"}
    parts = [{"type": "step-start"}, {"type": "text", "text": "Let me see.", "state": "done"}, tool]
    messages = [*body()["messages"], {"id": "a1", "role": "assistant", "metadata": {"own": 1}, "parts": parts}]
    return body(messages=messages, messageId="a1")


def test_a_resumed_continuation_is_the_message_that_it_continues(site: Site, spool: Spool) -> None:
    """With its id, its metadata and its earlier parts; a client that stayed gets none of them twice."""
    with site.open_stream("/api/chat", "POST", json=continuation()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        with spool.produce(CHAT, active_id(spool)) as out:
            assert [message["role"] for message in out.request.messages] == ["user", "assistant", "tool"]
            out.text("It is noon.")
            wait_for_event_with(spool, "noon")
            with site.open_stream(RESUME) as resumed:
                resumed.read_until(lambda s: has_event_with(s, "It is noon."))
                out.__exit__(None, None, None)
                late, there = message_of(resumed.read_to_end().events), message_of(stream.read_to_end().events)
    assert (late.id, late.metadata["own"], late.metadata["generation"]) == ("a1", 1, there.metadata["generation"])
    assert [part.get("text") for part in there.parts] == [None, "It is noon."]
    assert [part.get("text") for part in late.parts] == [None, "Let me see.", None, None, "It is noon."]
    assert [message["id"] for message in load(site)["messages"]] == ["m1", "a1"]


@pytest.mark.parametrize("read", ["status", "transcript"])
def test_a_continuation_that_begins_during_the_request_is_resumed_as_one(
    site: Site, spool: Spool, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """Between the route's reads of status and history: the answer would be a message of its own, or not be there."""
    ask_by_client(site, spool)
    original, turns = getattr(AsyncSpool, read), iter((True,))

    async def read_before_a_question(self: AsyncSpool, chat_id: str, **more: Any) -> Any:
        found = await original(self, chat_id, **more)
        if next(turns, False):
            conversation = {"messages": continuation()["messages"], "continued_at": 1}
            await self.enqueue(chat_id, "x", on_active="replace", transcript=conversation)
        return found

    monkeypatch.setattr(AsyncSpool, read, read_before_a_question)
    with site.open_stream(RESUME) as resumed:
        resumed.read_until(lambda s: has_event_with(s, '"message-metadata"'))
    assert message_of(resumed.events).id == "a1"


def test_a_restarted_continuation_keeps_what_it_continues(site: Site, spool: Spool, client: Redis) -> None:
    """Only what the dead attempt wrote is void: the call and the browser's output stand before it."""
    with site.open_stream("/api/chat", "POST", json=continuation()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        generation_id = active_id(spool)
        claim_and_die(client, generation_id, lease=60)
        void = encode_delta(generation_id, "text", "void")
        Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=(void,)))
        stream.read_until(lambda s: has_event_with(s, "void"))
        with spool.produce(CHAT, generation_id, wait=10) as out:
            out.text("good")
        events = stream.read_to_end().events
    (marker,) = [json.loads(event.data) for event in events if "chunkspool-restart" in event.data]
    assert marker["data"] == {"attempt": 2, "from": 3}
    parts = load(site)["messages"][1]["parts"]
    assert [part.get("text") for part in parts if part["type"] == "text"] == ["Let me see.", "good"]


def test_a_client_that_says_its_version_takes_back_what_is_void(site: Site, spool: Spool, client: Redis) -> None:
    """With `sdk=7`, the message is the second answer alone, and so it is when it is loaded."""
    with site.open_stream("/api/chat?sdk=7", "POST", json=body()) as stream:
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        generation_id = active_id(spool)
        claim_and_die(client, generation_id, lease=60)
        void = encode_delta(generation_id, "text", "void")
        Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=(void,)))
        stream.read_until(lambda s: has_event_with(s, "void"))
        with spool.produce(CHAT, generation_id, wait=10) as out:
            out.text("good")
        message = message_of(stream.read_to_end().events)
    assert [part.get("text") for part in message.parts] == [None, "good"]
    assert load(site, sdk=7)["messages"][1]["parts"] == text_parts("good")


def test_a_version_that_does_not_exist_is_rejected(site: Site) -> None:
    """422 on every route that takes one."""
    for version in ("5", "100", "x"):
        assert problem(site.client.post("/api/chat", params={"sdk": version}, json=body()))["status"] == 422
        for path in (RESUME, MESSAGES):
            assert problem(site.client.get(path, params={"sdk": version}))["status"] == 422


def test_a_shutdown_is_an_error_to_the_sdk(redis_url: str, spool: Spool) -> None:
    """It would take a clean end for the whole answer. The native stream does end cleanly: its client reconnects."""
    leaving = threading.Event()
    app = create_app(async_spool_for(redis_url), allow_all, is_shutting_down=leaving.is_set, closes_spool=True)
    with serve_app(app) as site, ExitStack() as stack:
        sent = stack.enter_context(site.open_stream("/api/chat", "POST", json=body()))
        sent.read_until(lambda s: has_event_with(s, '"start"'))
        resumed = stack.enter_context(site.open_stream(RESUME))
        resumed.read_until(lambda s: has_event_with(s, '"start"'))
        native = stack.enter_context(site.open_stream(f"/v1/chats/{CHAT}/events"))
        native.read_until(lambda s: has_event_with(s, "generation.queued"))
        leaving.set()
        for stream in (sent, resumed):
            check_cut(stream.read_to_end().events)
        assert [event.name for event in native.read_to_end().events] == ["generation.queued"]
    assert spool.status(CHAT).active


def test_a_server_that_cuts_its_streams_leaves_no_clean_end(redis_url: str, spool: Spool) -> None:
    """If the app is not told of the shutdown, uvicorn cancels it after a while: the body has no last chunk."""
    app = create_app(async_spool_for(redis_url), allow_all, is_shutting_down=lambda: False, closes_spool=True)
    with pytest.raises(httpx.RemoteProtocolError), serve_app(app, patience=1) as site, ExitStack() as stack:
        stream = stack.enter_context(site.open_stream("/api/chat", "POST", json=body()))
        stream.read_until(lambda s: has_event_with(s, '"start"'))
        site.shut_down()
        stream.read_to_end()
    assert spool.status(CHAT).active


def check_cut(events: list[SseEvent]) -> None:
    """Check that a stream ended with an error that says what to do."""
    assert events[-1].data == "[DONE]"
    message = message_of(events)
    assert message.error is not None
    assert "resume" in message.error


def test_an_ending_that_cannot_be_decoded_is_an_error(site: Site, spool: Spool, client: Redis) -> None:
    """The answer may be whole or not: nobody knows."""
    with spool.produce(CHAT, ask_by_client(site, spool)) as out:
        out.text("so far")
    *kept, (_, _) = client.xrange(KEYS.log)
    last = client.get(KEYS.seq)
    client.delete(KEYS.log)
    for entry_id, fields in [*kept, (f"{int(last)}-0", {"t": "1", "e": "no JSON"})]:
        client.xadd(KEYS.log, fields, id=entry_id)
    client.expire(KEYS.log, 60)
    with site.open_stream("/api/chat", "POST", json=body()) as repeated:
        events = repeated.read_to_end().events
    assert has_event_with(repeated, "so far")
    check_cut(events)


def test_a_history_whose_beginning_has_expired_is_410(site: Site, client: Redis) -> None:
    """A replay without its beginning would look like a different answer, so it is an error."""
    made = site.ask(CHAT)
    claim_and_die(client, made["generation"], lease=60)
    client.xtrim(KEYS.log, maxlen=1, approximate=False)
    reply = site.client.get(RESUME)
    assert reply.status_code == 410
    assert problem(reply)["first"] == 2
