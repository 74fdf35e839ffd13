"""The useChat dialect: the AI SDK gets valid parts, whatever happens to a generation and whenever a client joins."""

from __future__ import annotations

import json

import pytest
from pydantic import JsonValue
from support.chats.generated_entries import entries_of, random_log
from support.web.sse import events_of
from support.web.ui_message import ClientMessage, parts_of

from chunkspool import Entry, fold
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_chunks import RESTART
from chunkspool.dialects.usechat_messages import UiMessage
from chunkspool.events import (
    DataEvent,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
)

G = "g0"
BEGINNING: list[Event] = [GenerationQueued(generation_id=G), GenerationStarted(generation_id=G, attempt=1, model="m")]


def stream_of(replayed: list[Entry], live: list[Entry], sdk: int = 6) -> bytes:
    """Return the stream of a client that joins after `replayed`."""
    encoder = UseChatEncoder(G, sdk=sdk)
    for entry in replayed:
        encoder.add(entry)
    stream = encoder.take()
    for entry in live:
        encoder.add(entry)
        stream += encoder.take()
    return stream


def types_of(stream: bytes) -> list[str]:
    """Return the types of a stream's parts, in order."""
    return [str(part["type"]) for part in parts_of(stream)]


@pytest.mark.parametrize("sdk", [6, 7])
def test_every_cut_makes_the_same_message(sdk: int) -> None:
    """For 200 random logs and every cut k: a replay up to k, then live events, give the message of a full replay."""
    for seed in range(200):
        log = random_log(seed)
        whole = ClientMessage().take(parts_of(stream_of(log, [], sdk)))
        for k in range(len(log) + 1):
            joined = ClientMessage().take(parts_of(stream_of(log[:k], log[k:], sdk)))
            assert joined.visible() == whole.visible(), (seed, k)
            assert (joined.id, joined.metadata) == (whole.id, whole.metadata)
            assert (joined.finish_reason, joined.error) == (whole.finish_reason, whole.error)
            assert joined.aborted == whole.aborted


def test_the_message_equals_the_result_of_fold() -> None:
    """A front end shows the same text, reasoning, tools and data as the library's own `fold`."""
    for seed in range(200):
        log = random_log(seed)
        message = ClientMessage().take(parts_of(stream_of([], log)))
        shown = message.visible()
        (answer,) = [answer for answer in fold(entry.event for entry in log) if answer.generation_id == G]
        assert "".join(part["text"] for part in shown if part["type"] == "text") == answer.text
        assert "".join(part["text"] for part in shown if part["type"] == "reasoning") == answer.reasoning
        tools = [(part["toolCallId"], part["output"]) for part in shown if part["type"].startswith("tool-")]
        assert tools == [(call.id, call.output) for call in answer.tool_calls]
        assert [part["data"] for part in shown if part["type"] == "data-colour"] == [value for _, value in answer.data]
        assert (message.error is not None) == (answer.state == "failed")
        assert ("stopped" in message.metadata) == (answer.state == "stopped")


def test_five_thousand_replayed_deltas_become_one() -> None:
    """A replay is merged; live deltas after it are sent at once."""
    deltas: list[Event] = [TextDelta(generation_id=G, text=f"{n} ") for n in range(5000)]
    log = entries_of(
        [*BEGINNING, *deltas, TextDelta(generation_id=G, text="live"), GenerationCompleted(generation_id=G)]
    )
    parts = parts_of(stream_of(log[:5002], log[5002:]))
    said = [part["delta"] for part in parts if part["type"] == "text-delta"]
    assert said == ["".join(f"{n} " for n in range(5000)), "live"]


def test_a_stream_is_framed_as_the_sdk_expects() -> None:
    """start, start-step, the parts, finish-step, finish, and finally [DONE]."""
    log = entries_of([*BEGINNING, TextDelta(generation_id=G, text="hi"), GenerationCompleted(generation_id=G)])
    stream = stream_of([], log)
    framed = [
        "start",
        "start-step",
        "message-metadata",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert types_of(stream) == framed
    assert events_of(stream)[-1].data == "[DONE]"
    assert parts_of(stream)[0] == {"type": "start", "messageId": G, "messageMetadata": {"generation": G}}


def test_a_restart_closes_the_open_part_and_starts_a_new_one() -> None:
    """A client that has the void text gets the end of its part, a marker, and a new text part."""
    again = GenerationStarted(generation_id=G, attempt=2, model="m")
    said: list[Event] = [TextDelta(generation_id=G, text="void"), again, TextDelta(generation_id=G, text="good")]
    log = entries_of([*BEGINNING, *said, GenerationCompleted(generation_id=G)])
    stream = stream_of([], log)
    assert types_of(stream)[4:11] == [
        *("text-delta", "text-end", "finish-step", RESTART),
        *("start-step", "message-metadata", "text-start"),
    ]
    message = ClientMessage().take(parts_of(stream))
    assert [part.get("text") for part in message.visible()] == [None, "good"]
    assert message.metadata["attempt"] == 2


def test_a_client_that_joins_after_a_restart_never_sees_the_void_text() -> None:
    """A client that has nothing of a dead attempt is sent nothing of it."""
    again = GenerationStarted(generation_id=G, attempt=2)
    events: list[Event] = [
        TextDelta(generation_id=G, text="void"),
        DataEvent(generation_id=G, name="colour", value="void"),
        again,
    ]
    log = entries_of([*BEGINNING, *events, TextDelta(generation_id=G, text="good")])
    stream = stream_of(log, [])
    assert b"void" not in stream
    assert types_of(stream) == ["start", RESTART, "start-step", "message-metadata", "text-start", "text-delta"]


def test_an_attempt_that_continues_extends_the_same_part() -> None:
    """With `continues`, nothing is void, and the text continues in the middle of a word."""
    again = GenerationStarted(generation_id=G, attempt=2, continues=True)
    log = entries_of([*BEGINNING, TextDelta(generation_id=G, text="wo"), again, TextDelta(generation_id=G, text="rd")])
    message = ClientMessage().take(parts_of(stream_of([], log)))
    assert [part.get("text") for part in message.parts] == [None, "word"]


def test_a_stop_is_an_abort_and_is_in_the_metadata() -> None:
    """The SDK hides `abort` from the app, so the metadata has who stopped the generation and why."""
    log = entries_of(
        [GenerationQueued(generation_id=G), GenerationStopped(generation_id=G, by="user", reason="enough")]
    )
    message = ClientMessage().take(parts_of(stream_of([], log)))
    assert message.aborted
    assert message.metadata["stopped"] == {"by": "user", "reason": "enough"}


def test_a_failure_is_the_sdks_error() -> None:
    """The message for people becomes the error text; the code is in the metadata."""
    failed = GenerationFailed(generation_id=G, code="rate_limit", message="Too busy.", retryable=True)
    message = ClientMessage().take(parts_of(stream_of([], entries_of([*BEGINNING, failed]))))
    assert message.error == "Too busy."
    assert message.metadata["failed"] == {"code": "rate_limit", "retryable": True}


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", "stop"), ("content_filter", "content-filter"), ("tool_calls", "tool-calls"), ("eos", "other")],
)
def test_finish_reasons_are_the_sdks(reason: str, expected: str) -> None:
    """Its schema has six reasons; any other would end the stream with an error."""
    log = entries_of([*BEGINNING, GenerationCompleted(generation_id=G, finish_reason=reason)])
    assert parts_of(stream_of([], log))[-1] == {"type": "finish", "finishReason": expected}


def test_tool_calls_reach_the_front_end_with_their_input() -> None:
    """JSON arguments are decoded; broken ones are an error of that tool call, not of the stream."""
    calls: list[Event] = [
        ToolCallEvent(generation_id=G, id="1", name="clock", arguments='{"zone":"UTC"}'),
        ToolCallEvent(generation_id=G, id="2", name="clock", arguments="{broken"),
        ToolResultEvent(generation_id=G, id="1", output={"hour": 12}),
    ]
    parts = parts_of(stream_of([], entries_of([*BEGINNING, *calls])))
    assert parts[3] == {
        "type": "tool-input-available",
        "toolCallId": "1",
        "toolName": "clock",
        "input": {"zone": "UTC"},
    }
    assert (parts[4]["type"], parts[4]["input"]) == ("tool-input-error", "{broken")
    assert parts[5] == {"type": "tool-output-available", "toolCallId": "1", "output": {"hour": 12}}


def test_a_result_of_a_void_call_is_not_sent() -> None:
    """The SDK would abort the whole stream at a result whose call it does not know."""
    events: list[Event] = [
        ToolCallEvent(generation_id=G, id="1", name="clock", arguments="{}"),
        GenerationStarted(generation_id=G, attempt=2),
        ToolResultEvent(generation_id=G, id="1", output={"hour": 12}),
    ]
    assert "tool-output-available" not in types_of(stream_of(entries_of([*BEGINNING, *events]), []))


def test_an_answer_that_extends_the_last_message_has_no_id_of_its_own() -> None:
    """After tools have run in the browser, a new id would make the SDK show the message twice."""
    encoder = UseChatEncoder(G, continued=UiMessage(id="a1", role="assistant", parts=[]))
    encoder.add(entries_of(BEGINNING)[0])
    assert "messageId" not in parts_of(encoder.take())[0]


def test_what_is_said_after_a_result_is_another_step() -> None:
    """Two results of one round belong to one step; the next words, thoughts or calls begin another."""
    events: list[Event] = [
        ToolCallEvent(generation_id=G, id="1", name="clock", arguments="{}"),
        ToolCallEvent(generation_id=G, id="2", name="clock", arguments="{}"),
        ToolResultEvent(generation_id=G, id="1", output=1),
        ToolResultEvent(generation_id=G, id="2", output=2),
        TextDelta(generation_id=G, text="noon"),
        GenerationCompleted(generation_id=G),
    ]
    assert types_of(stream_of([], entries_of([*BEGINNING, *events])))[3:] == [
        *("tool-input-available", "tool-input-available", "tool-output-available", "tool-output-available"),
        *("finish-step", "start-step", "text-start", "text-delta", "text-end", "finish-step", "finish"),
    ]


def restarted(*said: Event) -> list[Entry]:
    """Return the log of a generation whose second attempt restarts after `said`."""
    again = GenerationStarted(generation_id=G, attempt=2, model="m")
    good = TextDelta(generation_id=G, text="good")
    return entries_of([*BEGINNING, *said, again, good, GenerationCompleted(generation_id=G)])


def test_a_client_that_can_takes_the_void_text_back() -> None:
    """The message then is the second answer alone: no marker, nothing to hide."""
    log = restarted(TextDelta(generation_id=G, text="void"), DataEvent(generation_id=G, name="colour", value=1))
    stream = stream_of([], log, sdk=7)
    assert types_of(stream)[3:9] == [
        *("text-start", "text-delta", "data-colour"),
        *("reset-step", "message-metadata", "text-start"),
    ]
    whole, reloaded = (ClientMessage().take(parts_of(one)) for one in (stream, stream_of(log, [], sdk=7)))
    assert whole.parts == reloaded.parts
    assert [part.get("text") for part in whole.parts] == [None, "good"]


def test_what_more_than_one_step_has_made_void_is_marked() -> None:
    """The SDK takes back one step only."""
    log = restarted(
        ToolCallEvent(generation_id=G, id="1", name="clock", arguments="{}"),
        ToolResultEvent(generation_id=G, id="1", output=1),
        TextDelta(generation_id=G, text="void"),
    )
    stream = stream_of([], log, sdk=7)
    assert "reset-step" not in types_of(stream)
    assert [part.get("text") for part in ClientMessage().take(parts_of(stream)).visible()] == [None, "good"]


def test_a_stop_interrupts_a_client_that_knows_the_word() -> None:
    """Otherwise version 7 would send a message whose tools have run on by itself."""
    log = entries_of([*BEGINNING, GenerationStopped(generation_id=G, by="user")])
    assert parts_of(stream_of([], log, sdk=7))[-2:] == [
        {"type": "finish", "finishReason": "interrupted"},
        {"type": "abort"},
    ]
    assert "finish" not in types_of(stream_of([], log))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("source-url", {"sourceId": "1", "url": "https://a.example", "title": "A"}, "source-url"),
        ("source-document", {"sourceId": "1", "mediaType": "text/plain", "title": "A"}, "source-document"),
        ("file", {"url": "data:,x", "mediaType": "text/plain"}, "file"),
        ("file", {"url": "data:,x"}, "data-file"),
        ("file", {"url": "data:,x", "mediaType": None}, "data-file"),
        ("source-url", {"sourceId": "1", "url": "https://a.example", "rank": "1"}, "data-source-url"),
        ("source-url", "https://a.example", "data-source-url"),
        ("text-delta", {"id": "text-1", "delta": "forged"}, "data-text-delta"),
    ],
)
def test_sources_and_files_are_the_sdks_own_parts(name: str, value: JsonValue, kind: str) -> None:
    """If the app's data are one by name and by all their fields; otherwise they stay data."""
    log = entries_of([*BEGINNING, DataEvent(generation_id=G, name=name, value=value)])
    part = parts_of(stream_of([], log))[-1]
    assert part == ({"type": kind, "data": value} if kind.startswith("data-") else {"type": kind, **value})


@pytest.mark.parametrize(
    "written", ['{"n":1e400}', '{"__proto__":{"a":1}}', '[{"constructor":{"prototype":1}}]', '"\\ud800"']
)
def test_arguments_that_a_browser_cannot_take_are_an_error_of_their_call(written: str) -> None:
    """The SDK would give up on the whole stream, or the tool would run with other arguments than the model wrote."""
    log = entries_of([*BEGINNING, ToolCallEvent(generation_id=G, id="1", name="clock", arguments=written)])
    part = parts_of(stream_of([], log))[-1]
    assert (part["type"], part["input"]) == ("tool-input-error", written)


def test_every_chunk_is_json_that_the_sdk_reads() -> None:
    """Neither numbers that JSON cannot hold nor names that change a prototype, at which the SDK gives up."""
    value = {"n": float("inf"), "__proto__": {"a": 1}, "deep": [{"constructor": {"prototype": 1}, "constructor2": 2}]}
    log = entries_of([*BEGINNING, DataEvent(generation_id=G, name="colour", value=value)])
    stream = stream_of([], log)
    assert b"__proto__" not in stream
    assert parts_of(stream)[-1]["data"] == {"n": None, "deep": [{"constructor2": 2}]}


def test_a_corrupt_first_entry_is_part_of_the_message() -> None:
    """A part before `start` would make a second message; after the ending, nothing is added."""
    encoder = UseChatEncoder(G)
    encoder.add_corrupt(1)
    encoder.add(entries_of([GenerationQueued(generation_id=G), GenerationCompleted(generation_id=G)])[1])
    encoder.add_corrupt(3)
    encoder.add_problem({"title": "Too late"})
    assert types_of(encoder.take()) == ["start", "data-chunkspool-corrupt", "finish"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_stream_that_is_closed_early_ends_as_an_error(begun: bool) -> None:
    """A clean end would make a cut answer look whole."""
    encoder = UseChatEncoder(G)
    for entry in entries_of([*BEGINNING, TextDelta(generation_id=G, text="so far")] if begun else []):
        encoder.add(entry)
    encoder.close()
    encoder.close()
    message = ClientMessage().take(parts_of(encoder.take()))
    assert message.error is not None
    assert "resume" in message.error


def test_a_complete_stream_is_closed_without_an_error() -> None:
    """What has ended has ended."""
    encoder = UseChatEncoder(G)
    for entry in entries_of([*BEGINNING, GenerationCompleted(generation_id=G)]):
        encoder.add(entry)
    encoder.close()
    message = ClientMessage().take(parts_of(encoder.take()))
    assert (message.error, message.finish_reason) == (None, "stop")


def test_an_early_end_is_an_error_and_completes_the_stream() -> None:
    """The front end learns why a stream ends before its generation has ended."""
    encoder = UseChatEncoder(G)
    encoder.add_problem({"title": "Chat not found", "detail": "It was erased."})
    data = [event.data for event in events_of(encoder.take())]
    assert [json.loads(data[0]), *data[1:]] == [{"type": "error", "errorText": "It was erased."}, "[DONE]"]
    assert encoder.take() == b""
