"""The AI SDK's own clients (npm's `ai` 6 and 7, unmodified) read every cut of a chat and make the same of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pytest
from support.chats.generated_entries import entries_of, random_log
from support.web.node import SDKS, start_client

from chunkspool import Entry
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.dialects.usechat_chunks import RESTART
from chunkspool.dialects.usechat_conversation import ChatMessages, Conversation
from chunkspool.dialects.usechat_messages import UiMessage
from chunkspool.events import GenerationCompleted, GenerationQueued, GenerationStarted, TextDelta

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
    conversation = Conversation.model_validate({"messages": messages, "continued_at": 1 if continues else None})
    logs = [[entry for entry in random_log(seed) if entry.generation_id == G] for seed in SEEDS]
    cases = [cuts_of(sdk, log, messages, conversation.continued)[0] for log in logs]
    for log, stays in zip(logs, judge(sdk, cases), strict=True):
        kept = Conversation.of_transcript(conversation.to_transcript())
        assert kept is not None
        chat = ChatMessages(kept, G, [G], sdk=sdk)
        for entry in log:
            chat.add(entry)
        built = json.loads(
            json.dumps([message.model_dump(exclude_none=True) for message in chat.build(chat.page(None, None))])
        )
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
