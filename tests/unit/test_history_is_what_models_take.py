"""History: the conversation of a log, as messages that every model's API takes, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from support.chats.random_chats import seeded_random

from chunkspool import fold
from chunkspool.conversation import conversation
from chunkspool.events import (
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationQueued,
    GenerationStarted,
    GenerationStopped,
    MessageEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
    ToolResultEvent,
)
from chunkspool.operations.answer_steps import BROKEN_OFF, STOPPED, AnswerSteps
from chunkspool.operations.history_messages import FILE_CHARACTERS, Budget, History, build_history

NO_LIMIT = Budget(10_000, 10_000_000)
Message = dict[str, Any]


def user(text: object) -> Message:
    """Return a question."""
    return {"role": "user", "content": text}


def said(text: str | None, *calls: Message) -> Message:
    """Return an answer."""
    return {"role": "assistant", "content": text, **({"tool_calls": list(calls)} if calls else {})}


def tool(call_id: str, output: str) -> Message:
    """Return a tool's output."""
    return {"role": "tool", "tool_call_id": call_id, "content": output}


def call_of(call_id: str, arguments: str = "{}") -> Message:
    """Return a call as models take it."""
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}}


class Log:
    """A log of a conversation, one generation after the other."""

    def __init__(self) -> None:
        """Begin empty."""
        self.events: list[Event] = []
        self._generation = ""

    def ask(self, *messages: Message, replaces: str | None = None) -> str:
        """Enqueue and claim a generation; return its id."""
        generation = self._generation = f"g{sum(event.type == 'generation.queued' for event in self.events)}"
        for number, message in enumerate(messages):
            self.events.append(MessageEvent(generation_id=generation, **{"id": f"{generation}.{number}", **message}))
        self.events.append(GenerationQueued(generation_id=generation, replaces=replaces))
        self.start()
        return generation

    def start(self, attempt: int = 1, *, continues: bool = False) -> None:
        """Begin an attempt."""
        self.events.append(GenerationStarted(generation_id=self._generation, attempt=attempt, continues=continues))

    def say(self, *texts: str) -> None:
        """Say pieces of the answer."""
        self.events += [TextDelta(generation_id=self._generation, text=text) for text in texts]

    def call(self, call_id: str, arguments: str = "{}") -> None:
        """Call a tool."""
        self.events.append(ToolCallEvent(generation_id=self._generation, id=call_id, name="look", arguments=arguments))

    def give(self, call_id: str, output: Any) -> None:
        """Say what the tool gave back."""
        self.events.append(ToolResultEvent(generation_id=self._generation, id=call_id, output=output))

    def complete(self) -> None:
        """End the answer."""
        self.events.append(GenerationCompleted(generation_id=self._generation))

    def stop(self) -> None:
        """Stop the answer."""
        self.events.append(GenerationStopped(generation_id=self._generation, by="user"))

    def fail(self) -> None:
        """Let the answer fail."""
        self.events.append(GenerationFailed(generation_id=self._generation, code="x", message="x"))

    def turn(self, question: str, answer: str) -> str:
        """Ask and answer."""
        generation = self.ask(user(question))
        self.say(answer)
        self.complete()
        return generation

    def build(self, *request: Message, budget: Budget = NO_LIMIT, asked: Sequence[Message] | None = None) -> History:
        """Return what the model gets that is asked `request`."""
        steps: dict[str, AnswerSteps] = {}
        for event in self.events:
            steps.setdefault(event.generation_id, AnswerSteps()).add(event)
        new = [one for one in request if one["role"] != "system"] if asked is None else asked
        events = [MessageEvent(generation_id="new", **{"id": f"new.{at}", **one}) for at, one in enumerate(new)]
        return build_history(conversation(fold(self.events)), steps, request, events, budget)

    def messages(self, *request: Message, **options: Any) -> list[Any]:
        """Return its messages."""
        return list(self.build(*request, **options).messages)


@pytest.fixture
def log() -> Log:
    """Provide an empty log."""
    return Log()


def test_the_app_speaks_first_then_the_log_then_the_question(log: Log) -> None:
    """System and developer messages of the request come first, wherever they stand in it."""
    log.turn("a", "A")
    log.turn("b", "B")
    developer = {"role": "developer", "content": "be brief"}
    system = {"role": "system", "content": "you are kind"}
    assert log.messages(system, user("c"), developer, asked=[user("c")]) == [
        system,
        developer,
        user("a"),
        said("A"),
        user("b"),
        said("B"),
        user("c"),
    ]


def test_what_is_only_shown_does_not_take_the_place_of_an_answer(log: Log) -> None:
    """A user has approved a call in the browser: the message is another one, and tells the model nothing new."""
    shown = {**said(None), "ui": {"parts": []}}
    log.turn("a", "A")
    assert log.messages(asked=[shown]) == [user("a"), said("A")]
    log.ask(shown)
    log.say("B")
    log.complete()
    assert log.messages(user("c")) == [user("a"), said("A\n\nB"), user("c")]
    assert log.messages(user("c"), asked=[shown, user("c")])[-1] == user("c")


def test_without_a_conversation_the_request_stays_as_it_is(log: Log) -> None:
    """The first question, and a log of an older version, which has answers without questions."""
    request = (user("a"), said("A", call_of("x")), user("b"))
    assert log.messages(*request) == list(request)
    log.ask()
    log.say("whose question is not known")
    log.complete()
    assert log.messages(*request) == list(request)


def test_what_only_readers_need_does_not_go_to_the_model(log: Log) -> None:
    """`id`, `ui` and the event's own fields stay in the log; what the app has added goes on."""
    log.ask({**user("a"), "id": "m1", "ui": {"id": "m1", "parts": []}, "name": "ann"})
    log.say("A")
    log.complete()
    assert log.messages(user("b")) == [{**user("a"), "name": "ann"}, said("A"), user("b")]


def test_a_client_that_sends_the_whole_conversation_repeats_nothing(log: Log) -> None:
    """Only what is new is added: what the log got with the request, or else what follows the last answer."""
    log.turn("a", "A")
    whole = (user("a"), said("A"), user("b"))
    expected = [user("a"), said("A"), user("b")]
    assert log.messages(*whole, asked=[user("b")]) == expected
    assert log.messages(*whole, asked=[]) == expected


def test_void_attempts_are_left_out(log: Log) -> None:
    """What a further attempt has begun again counts once; what it continues counts as a whole."""
    log.ask(user("a"))
    log.say("void")
    log.start(2)
    log.say("one, ")
    log.start(3, continues=True)
    log.say("two")
    log.complete()
    assert log.messages(user("b")) == [user("a"), said("one, two"), user("b")]


@pytest.mark.parametrize(("end", "mark"), [("stop", STOPPED), ("fail", BROKEN_OFF), ("", BROKEN_OFF)])
def test_an_answer_that_is_not_whole_is_marked(log: Log, end: str, mark: str) -> None:
    """The model sees what the person saw, and that it was not the end: stopped, failed, or still being written."""
    log.ask(user("a"))
    log.say("half an ")
    if end:
        getattr(log, end)()
    assert log.messages(user("b")) == [user("a"), said(f"half an \n\n{mark}"), user("b")]


@pytest.mark.parametrize("end", ["stop", "fail", "complete"])
def test_a_question_without_an_answer_becomes_one_with_the_next(log: Log, end: str) -> None:
    """Some models take turns strictly, so two questions never follow each other."""
    log.turn("a", "A")
    for question in ("b", "c"):
        log.ask(user(question))
        log.say("  ")
        getattr(log, end)()
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert log.messages(user("d")) == [user("a"), said("A"), user("b\n\nc\n\nd")]
    assert log.messages(user([picture]))[2:] == [user([{"type": "text", "text": "b\n\nc"}, picture])]


def test_messages_that_were_asked_together_stay_apart(log: Log) -> None:
    """What one request had as two messages is not made one, nor is what somebody else has said."""
    log.ask(user("a"), user("b"))
    log.fail()
    log.ask({**user("c"), "name": "ann"})
    log.fail()
    assert log.messages(user("d")) == [user("a"), user("b"), {**user("c"), "name": "ann"}, user("d")]


def test_only_the_version_that_counts_is_told(log: Log) -> None:
    """A replaced answer is left out with all that followed it; the new version has the same question."""
    log.turn("a", "A")
    replaced = log.turn("b", "B")
    log.turn("c", "C")
    log.ask(replaces=replaced)
    log.say("better B")
    log.complete()
    assert log.messages(user("d")) == [user("a"), said("A"), user("b"), said("better B"), user("d")]


def test_thinking_is_not_repeated(log: Log) -> None:
    """APIs take it back in forms of their own, or not at all."""
    log.ask(user("a"))
    log.events.append(ReasoningDelta(generation_id="g0", text="hmm"))
    log.say("A")
    log.complete()
    assert log.messages(user("b")) == [user("a"), said("A"), user("b")]


def test_tools_are_told_step_by_step(log: Log) -> None:
    """What an agent said before a call, the call, its output and what it said then, in this order."""
    log.ask(user("a"))
    log.say("let me ", "look")
    log.call("1", '{"at":1}')
    log.call("2")
    log.give("1", {"found": [1, None]})
    log.give("2", "as text")
    log.call("3")
    log.give("3", None)
    log.say("there it is")
    log.complete()
    assert log.messages(user("b")) == [
        user("a"),
        said("let me look", call_of("1", '{"at":1}'), call_of("2")),
        tool("1", '{"found":[1,null]}'),
        tool("2", "as text"),
        said(None, call_of("3")),
        tool("3", "null"),
        said("there it is"),
        user("b"),
    ]


def test_calls_of_several_steps_may_have_the_same_id(log: Log) -> None:
    """Some servers count each step's calls from 0: an output belongs to the newest call, a later output replaces it."""
    log.ask(user("a"))
    for output in ("first", "second"):
        log.call("0")
        log.give("0", "preliminary")
        log.give("0", output)
    log.complete()
    call = said(None, call_of("0"))
    assert log.messages(user("b")) == [user("a"), call, tool("0", "first"), call, tool("0", "second"), user("b")]


def test_a_call_without_an_output_is_left_out(log: Log) -> None:
    """APIs reject it. What was said around it stays, as one message."""
    log.ask(user("a"))
    log.say("before")
    log.call("1")
    log.say("after")
    log.stop()
    log.ask(user("b"))
    log.call("2")
    log.complete()
    assert log.messages(user("c")) == [user("a"), said(f"before\n\nafter\n\n{STOPPED}"), user("b\n\nc")]


def test_a_stop_after_tools_is_told(log: Log) -> None:
    """The calls have their outputs, so they are told; the stop is the answer to them."""
    log.ask(user("a"))
    log.call("1")
    log.give("1", "x")
    log.stop()
    assert log.messages(user("b"))[1:-1] == [said(None, call_of("1")), tool("1", "x"), said(STOPPED)]


@pytest.mark.parametrize(
    ("written", "told"), [("", "{}"), ("[1]", '{"arguments":"[1]"}'), ('{"half', '{"arguments":"{\\"half"}')]
)
def test_arguments_are_always_an_object(log: Log, written: str, told: str) -> None:
    """Servers reject a whole conversation for one call whose arguments are none."""
    log.ask(user("a"))
    log.call("1", written)
    log.give("1", "x")
    log.complete()
    assert log.messages(user("b"))[1] == said(None, call_of("1", told))


def test_outputs_of_the_browsers_tools_follow_their_calls(log: Log) -> None:
    """They came with the next request, or come with this one; what answers no call is left out."""
    log.ask(user("a"))
    log.say("asking")
    log.call("1")
    log.call("2")
    log.complete()
    log.ask(tool("2", "two"), tool("1", "one"), tool("9", "of no call"))
    log.say("done")
    log.complete()
    log.ask(user("b"))
    log.call("3")
    log.complete()
    calls = [user("a"), said("asking", call_of("1"), call_of("2")), tool("1", "one"), tool("2", "two"), said("done")]
    assert log.messages(tool("3", "three")) == [*calls, user("b"), said(None, call_of("3")), tool("3", "three")]
    assert log.messages(user("c")) == [*calls, user("b\n\nc")]


def test_an_answer_that_the_client_has_changed_counts_instead(log: Log) -> None:
    """A client that repeats the last answer has added to it what its tools gave back."""
    log.turn("a", "A")
    log.ask(user("b"))
    log.say("asking")
    log.call("1")
    log.complete()
    changed = said("asking", call_of("1"))
    assert log.messages(changed, tool("1", "one"))[2:] == [user("b"), changed, tool("1", "one")]


def test_a_greeting_is_no_beginning(log: Log) -> None:
    """A history begins with a question."""
    log.ask(said("Hello!"), user("a"))
    log.say("A")
    log.complete()
    assert log.messages(user("b")) == [user("a"), said("A"), user("b")]


def test_the_oldest_is_cut(log: Log) -> None:
    """As many whole turns as the budget holds, and the newest question in any case."""
    for name in "abcd":
        log.turn(name, name.upper())
    whole = log.build(user("e"))
    assert (len(whole.messages), whole.is_full) == (9, False)
    for most, left in ((9, 9), (8, 7), (7, 7), (6, 5), (2, 1), (1, 1)):
        cut = log.build({"role": "system", "content": "s"}, user("e"), budget=Budget(most, 1000), asked=[user("e")])
        assert list(cut.messages[1:]) == list(whole.messages[-left:])
        assert cut.is_full is (most < 9)


def test_characters_count_what_is_said_and_a_file_counts_the_same_whatever_its_size(log: Log) -> None:
    """A picture of a megabyte does not push the question about it out of the history."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    log.turn("x" * 3000, "y")
    log.ask(user([{"type": "text", "text": "what is it?"}, picture]))
    log.say("A cat.")
    log.complete()
    kept = log.build(user("what colour?"), budget=Budget(100, FILE_CHARACTERS + 1000))
    assert ([message["role"] for message in kept.messages], kept.is_full) == (["user", "assistant", "user"], True)
    assert log.messages(user("z" * 9000), budget=Budget(100, 5000)) == [user("z" * 9000)]


def test_a_cut_never_parts_an_output_from_its_call(log: Log) -> None:
    """Whatever the budget, the history begins with a question, and each output has its call before it."""
    for name in "abc":
        log.ask(user(name))
        log.call(name)
        log.give(name, "x")
        log.say(name.upper())
        log.complete()
    for most in range(1, 15):
        messages = log.messages(user("d"), budget=Budget(most, 1000))
        assert messages[0]["role"] == "user"
        assert (len(messages) - 1) % 4 == 0
        assert len(messages) <= max(most, 1)


def test_a_request_that_goes_on_keeps_its_question(log: Log) -> None:
    """Outputs of the browser's tools alone say nothing: the question and the calls stay, whatever the budget."""
    log.turn("a", "A")
    log.ask(user("b"))
    log.call("1")
    log.complete()
    kept = log.messages(tool("1", "one"), budget=Budget(1, 1))
    assert kept == [user("b"), said(None, call_of("1")), tool("1", "one")]


def write_at_random(log: Log, random: Random) -> None:
    """Write a conversation of a few turns, in which much goes wrong."""
    generations: list[str] = []
    for _ in range(random.randrange(1, 9)):
        replaces = random.choice(generations) if generations and random.random() < 0.2 else None
        questions = [
            user("q"),
            tool("1", "x"),
            tool("2", "y"),
            said("changed", call_of("1")),
            {**user("n"), "name": "ann"},
        ]
        generations.append(
            log.ask(*random.choices(questions, k=random.randrange(0 if replaces else 1, 4)), replaces=replaces)
        )
        for _ in range(random.randrange(7)):
            step = random.choice(("say", "call", "give", "again"))
            if step == "say":
                log.say(random.choice(("t", " ")))
            elif step == "call":
                log.call(random.choice("123"))
            elif step == "give":
                log.give(random.choice("123"), "out")
            else:
                log.start(2, continues=random.random() < 0.5)
        random.choice((log.complete, log.stop, log.fail, lambda: None))()


@pytest.mark.parametrize("seed", [1, 1001, 2001])
def test_whatever_is_in_the_log_an_api_takes_it(seed: int) -> None:
    """It begins with a question, calls and outputs come in pairs, and the model says something, but never twice."""
    for each in range(seed, seed + 300):
        log, random = Log(), seeded_random(each)
        write_at_random(log, random)
        question = user([{"type": "text", "text": "new"}] if each % 2 else "new")
        messages = log.messages(question, budget=Budget(random.randrange(1, 20), random.randrange(1, 5000)))
        assert messages[0]["role"] == "user"
        assert "new" in str(messages[-1]["content"])
        open_calls: list[str] = []
        for before, message in pairwise([{"role": "none"}, *messages]):
            if message["role"] == "tool":
                assert message["tool_call_id"] == open_calls.pop(0)
                continue
            assert open_calls == []
            open_calls = [call["id"] for call in message.get("tool_calls", ())]
            assert message["content"] or open_calls
            assert before["role"] != "assistant" or message["role"] != "assistant"
