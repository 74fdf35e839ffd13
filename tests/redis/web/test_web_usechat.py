"""The useChat routes: send, resume and stop, called as by an unmodified AI SDK front end."""

from __future__ import annotations

from typing import Any

from redis import Redis
from support.chats.logs import CHAT, KEYS, read_log
from support.chats.spools import claim_and_die
from support.web.sse import SseEvent
from support.web.ui_message import ClientMessage, parts_of
from support.web.web_server import Site, SseStream, problem

from chunkspool import Spool
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store

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


def test_a_history_whose_beginning_has_expired_is_410(site: Site, client: Redis) -> None:
    """A replay without its beginning would look like a different answer, so it is an error."""
    made = site.ask(CHAT)
    claim_and_die(client, made["generation"], lease=60)
    client.xtrim(KEYS.log, maxlen=1, approximate=False)
    reply = site.client.get(RESUME)
    assert reply.status_code == 410
    assert problem(reply)["first"] == 2
