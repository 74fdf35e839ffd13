"""The AI SDK's own clients (npm's `ai` 6 and 7, unmodified) read every cut of a chat and make the same of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pytest
from support.chats.generated_entries import entries_of, random_log
from support.web.node import SDKS, start_client

from chunkspool import Entry, conversation, fold
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_additions import with_additions
from chunkspool.dialects.usechat_chat import Chat, PageBuilder
from chunkspool.dialects.usechat_chunks import RESTART
from chunkspool.dialects.usechat_conversation import Conversation
from chunkspool.dialects.usechat_logged import continued_by, to_logged_messages
from chunkspool.dialects.usechat_messages import UiMessage, UseChatRequest
from chunkspool.events import (
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    MessageEvent,
    TextDelta,
    ToolCallEvent,
)
from chunkspool.fold import Answer

pytestmark = pytest.mark.timeout(300)

Message = dict[str, Any]
Case = dict[str, Any]
Result = dict[str, Any]
G = "g0"
SEEDS = range(10)
USER = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "What time is it?"}]}
DONE = {"state": "done"}
OUTPUT = {"state": "output-available", "input": {"zone": "UTC", "deep": [1, None, "ß"]}, "output": {"hour": 12}}
APPROVAL = {"id": "ok", "approved": True, "reason": "why not"}
PARTS: list[dict[str, Any]] = [
    {"type": "step-start"},
    {"type": "reasoning", "id": "reasoning-1", "text": "hm", **DONE, "providerMetadata": {"p": {"signature": "x"}}},
    {"type": "text", "text": "void", **DONE},
    {"type": RESTART, "id": "restart-1", "data": {"attempt": 2}},
    {"type": "step-start"},
    {"type": "text", "text": "Let me see.", **DONE},
    {"type": "text", "text": "", **DONE},
    {"type": "data-colour", "data": ["red"]},
    {"type": "data-colour", "id": "c", "data": None},
    {"type": "source-url", "sourceId": "s", "url": "https://a.example", "title": "A"},
    {"type": "source-document", "sourceId": "d", "mediaType": "text/plain", "title": "B", "filename": "b.txt"},
    {"type": "file", "mediaType": "text/plain", "url": "data:,x"},
    {"type": "tool-clock", "toolCallId": "1", **OUTPUT, "callProviderMetadata": {"p": {"signature": "y"}}},
    {"type": "dynamic-tool", "toolName": "mail", "toolCallId": "2", **OUTPUT, "title": "Mail"},
    {"type": "tool-clock", "toolCallId": "3", **OUTPUT, "output": None, "preliminary": True},
    {"type": "tool-clock", "toolCallId": "4", "state": "output-error", "input": {}, "errorText": "no such zone"},
    {"type": "dynamic-tool", "toolName": "m", "toolCallId": "5", "state": "output-error", "input": 1, "errorText": "e"},
    {"type": "tool-clock", "toolCallId": "6", "state": "input-available", "input": {}},
    {"type": "tool-clock", "toolCallId": "7", "state": "approval-requested", "input": {}, "approval": {"id": "a"}},
]
"""One part of each kind that a client may have when tools have run in it."""
ONLY: dict[int, list[dict[str, Any]]] = {
    6: [{"type": "tool-clock", "toolCallId": "8", "state": "output-error", "rawInput": "{", "errorText": "no JSON"}],
    7: [
        {"type": "tool-clock", "toolCallId": "8", "state": "approval-responded", "input": {}, "approval": APPROVAL},
        {"type": "tool-clock", "toolCallId": "9", **OUTPUT, "approval": {**APPROVAL, "id": "ok2"}},
        {"type": "tool-clock", "toolCallId": "10", "state": "output-denied", "input": {}, "approval": {"id": "no"}},
        {"type": "custom", "kind": "p.thing"},
        {"type": "steering-message", "id": "s", "parts": [{"type": "text", "text": "Hurry."}]},
    ],
}
"""Parts that only one version has, or can be told of."""


def original_for(sdk: int) -> Message:
    """Return the message that a client of this version has when its tools have run."""
    return {"id": "a1", "role": "assistant", "parts": PARTS + ONLY[sdk]}


def messages_of(
    sdk: int, log: Iterable[Entry], answers: Iterable[Answer], known: Mapping[str, UiMessage]
) -> list[Message]:
    """Return the messages that a page gets."""
    page = Chat(conversation(answers), known, is_whole=True).find_page(None, None)
    assert page is not None
    builder = PageBuilder(page, sdk=sdk)
    for entry in log:
        if entry.generation_id in page.generation_ids:
            builder.add(entry)
    built: list[Message] = json.loads(json.dumps([one.model_dump(exclude_none=True) for one in builder.build()]))
    return built


def judge(sdk: int, cases: list[Case]) -> list[Result]:
    """Return what the SDK's client makes of each case."""
    out, err = start_client(sdk, "judge.mjs").communicate(json.dumps(cases), timeout=200)
    results: list[Result] = json.loads(out or "null")
    assert results is not None, err
    assert len(results) == len(cases)
    return results


def body_of(encoder: UseChatEncoder, replayed: Iterable[Entry], live: Iterable[Entry]) -> str:
    """Return the stream of a client that joins after `replayed`."""
    for entry in replayed:
        encoder.add(entry)
    stream = encoder.take()
    for entry in live:
        encoder.add(entry)
        stream += encoder.take()
    encoder.close()
    return (stream + encoder.take()).decode()


def visible(message: Message) -> Message:
    """Return the message as the docs tell a front end to show it."""
    parts = message["parts"]
    restarts = [(part["data"].get("from", 0), at) for at, part in enumerate(parts) if part["type"] == RESTART]
    shown = [part for i, part in enumerate(parts) if not any(begin <= i <= at for begin, at in restarts)]
    return {**message, "parts": shown}


def last_of(result: Result) -> Message:
    """Return the message that a client shows last."""
    return visible(result["messages"][-1])


def cuts_of(sdk: int, log: list[Entry], messages: list[Message], continued: UiMessage | None) -> list[Case]:
    """Return the case of a client that sends and stays, then that of a reload after each entry."""
    stays = UseChatEncoder(G, sdk=sdk, continued=continued)
    cases = [{"messages": messages, "resume": False, "body": body_of(stays, [], log)}]
    for k in range(len(log) + 1):
        joins = UseChatEncoder(G, sdk=sdk, continued=continued, replays=True)
        cases.append({"messages": messages, "resume": True, "body": body_of(joins, log[:k], log[k:])})
    return cases


def judge_cuts(sdk: int, messages: list[Message], continued: UiMessage | None) -> Iterator[tuple[Result, list[Result]]]:
    """Yield for each random log what a client makes of it that stays, and what those make that reload.

    All are judged in one go, because to start the SDK takes seconds on a busy machine.
    """
    cuts = [cuts_of(sdk, random_log(seed), messages, continued) for seed in SEEDS]
    results = iter(judge(sdk, [case for cases in cuts for case in cases]))
    for cases in cuts:
        stays, *reloads = islice(results, len(cases))
        yield stays, reloads


def check_reloads(stays: Result, reloads: list[Result]) -> None:
    """Check that clients that reload after any event end as the one that stayed."""
    for k, reloaded in enumerate(reloads):
        assert last_of(reloaded) == last_of(stays), k
        assert (reloaded["status"], reloaded["error"]) == (stays["status"], stays["error"]), k
        assert [message["role"] for message in reloaded["messages"]] == ["user", "assistant"], k


@pytest.mark.parametrize("sdk", SDKS)
def test_every_cut_of_an_answer_is_the_answer(sdk: int) -> None:
    """A client that reloads after any event ends with the message, the status and the error of one that stayed."""
    for stays, reloads in judge_cuts(sdk, [USER], None):
        check_reloads(stays, reloads)


@pytest.mark.parametrize("sdk", SDKS)
def test_every_cut_of_a_continuation_is_the_same_message(sdk: int) -> None:
    """Its id, its metadata and all of its earlier parts, the browser's outputs among them; no tool runs again."""
    original = {**original_for(sdk), "metadata": {"generation": "g", "own": {"a": 1}}}
    for stays, reloads in judge_cuts(sdk, [USER, original], UiMessage.model_validate(original)):
        assert stays["messages"][-1]["id"] == "a1"
        assert stays["messages"][-1]["parts"][: len(original["parts"])] == original["parts"]
        check_reloads(stays, reloads)
        for reloaded in reloads:
            assert not {"1", "2", "3", "4", "5"} & set(reloaded["calls"]), "they have run"


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("sdk", SDKS)
def test_the_messages_of_a_chat_are_those_of_the_client(sdk: int, continues: bool) -> None:
    """What a page loads is what a client has that was there all the time, without the void parts."""
    messages = [USER, original_for(sdk)] if continues else [USER]
    history = Conversation.model_validate({"messages": messages, "continued_at": 1 if continues else None})
    logs = [[entry for entry in random_log(seed) if entry.generation_id == G] for seed in SEEDS]
    cases = [cuts_of(sdk, log, messages, history.continued)[0] for log in logs]
    for log, stays in zip(logs, judge(sdk, cases), strict=True):
        kept = Conversation.of_transcript(history.to_transcript())
        assert kept is not None
        answers, known = kept.to_answers(G)
        built = messages_of(sdk, log, answers, known)
        assert [visible(message) for message in built] == [visible(message) for message in stays["messages"]]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_stream_that_ends_early_is_an_error_at_every_cut(sdk: int) -> None:
    """Only a stream with its ending leaves the client `ready`: a cut answer never looks whole."""
    log = entries_of(
        [
            GenerationQueued(generation_id=G),
            GenerationStarted(generation_id=G, attempt=1, model="m"),
            *(TextDelta(generation_id=G, text=f"{n} ") for n in range(10)),
            GenerationCompleted(generation_id=G),
        ]
    )
    cases = [
        {"messages": [USER], "resume": resume, "body": body_of(UseChatEncoder(G, sdk=sdk), [], log[:k])}
        for k in range(len(log) + 1)
        for resume in (False, True)
    ]
    statuses = [result["status"] for result in judge(sdk, cases)]
    assert statuses == ["error"] * 2 * len(log) + ["ready"] * 2


A = "first"
CALL = {"type": "tool-clock", "toolCallId": "1", "state": "output-available", "input": {}, "output": "noon"}
SAID: list[Event] = [
    GenerationStarted(generation_id=A, attempt=1, model="m"),
    TextDelta(generation_id=A, text="Let me see."),
    ToolCallEvent(generation_id=A, id="1", name="clock", arguments="{}"),
]
ASKED_AGAIN: list[tuple[str, dict[str, Any], str | None]] = [
    ("next", {"messageId": None}, None),
    ("regenerate", {"trigger": "regenerate-message", "messageId": A}, A),
    ("edit", {"messageId": "u1"}, A),
    ("continue", {"messageId": A}, None),
]
"""What a client does after its first answer: the fields of its request, and what that replaces."""


def first_turn(sdk: int, ending: Event) -> tuple[list[Event], list[Message]]:
    """Return the events of a first turn, and the messages that its client has then."""
    question = MessageEvent(generation_id=A, id="u1", role="user", content="What time is it?")
    events: list[Event] = [question, GenerationQueued(generation_id=A), *SAID, ending]
    return events, messages_of(sdk, entries_of(events), fold(events), {})


def messages_to_send(act: str, messages: list[Message]) -> list[Message]:
    """Return the messages that the client has when it sends."""
    question, called = messages
    if act == "next":
        return [question, called, {**USER, "id": "u2", "metadata": {"at": 1}}]
    if act == "continue":
        parts = [CALL if part["type"] == "tool-clock" else part for part in called["parts"]]
        return [question, {**called, "parts": parts}]
    return [question if act == "regenerate" else {**USER, "parts": [{"type": "text", "text": "And now?"}]}]


@pytest.mark.parametrize("sdk", SDKS)
def test_a_reload_at_every_cut_of_the_log_is_the_live_chat(sdk: int) -> None:
    """After the next question, a regenerated answer, an edited question, a tool in the browser: in any state it ends.

    What the page loads and then resumes is what the client has that was there all the time.
    """
    cases: list[Case] = []
    names: list[tuple[str, int, int]] = []
    endings = [
        GenerationCompleted(generation_id=A, finish_reason="tool_calls"),
        GenerationStopped(generation_id=A, by="user"),
        GenerationFailed(generation_id=A, code="server_error", message="The model failed."),
    ]
    for seed in range(6):
        earlier, had = first_turn(sdk, endings[seed % 3])
        for act, fields, replaces in ASKED_AGAIN:
            sent = messages_to_send(act, had)
            request = UseChatRequest.parse({"id": "chat", "messages": sent, **fields})
            if request.continued_message is not None:
                logged = UiMessage.model_validate(had[1])
                request = request.continuing(with_additions(logged, request.continued_message))
            logged = to_logged_messages(request, only_new=True)
            asked: list[Event] = [
                MessageEvent.model_validate({"id": f"{G}.1", **one, "generation": G}, by_alias=True, by_name=False)
                for one in ([] if act == "regenerate" else logged)
            ]
            answer = [entry.event for entry in random_log(seed) if entry.generation_id == G][1:]
            events = [*earlier, *asked, GenerationQueued(generation_id=G, replaces=replaces), *answer]
            log, begun = entries_of(events), len(earlier)
            continued = request.continued_message
            stays = UseChatEncoder(G, sdk=sdk, continued=continued)
            cases.append({"messages": sent, "resume": False, "body": body_of(stays, [], log[begun:])})
            names.append((act, seed, -1))
            for k in range(begun + len(asked) + 1, len(log) + 1):
                found = messages_of(sdk, log[:k], fold(events[:k]), {})
                assert continued_by([event for event in asked if isinstance(event, MessageEvent)]) == continued
                joins = UseChatEncoder(G, sdk=sdk, continued=continued, replays=True)
                rest = None if k == len(log) else body_of(joins, log[begun:k], log[k:])
                cases.append({"messages": found, "resume": True, "body": rest})
                names.append((act, seed, k))
    live: Result = {}
    for name, result in zip(names, judge(sdk, cases), strict=True):
        if name[2] < 0:
            live = result
        assert list(map(visible, result["messages"])) == list(map(visible, live["messages"])), name
