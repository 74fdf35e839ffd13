"""`make bench`, conversation: fold, `conversation` and what a model is given, of a chat of 1,000 turns.

`python -m bench.conversation`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial

from bench.harness.environment import LEASE_MS, TTL_MS, Environment, ReadyChat
from bench.harness.report import Figure, at_most, measure_medians
from bench.harness.run import Measurements, run
from chunkspool import Settings, Spool, conversation, fold
from chunkspool.effects import Effect, drive
from chunkspool.events import GenerationQueued, MessageEvent, ToolCallEvent, ToolResultEvent, encode
from chunkspool.ids import new_generation_id
from chunkspool.operations.answer_steps import ModelMessage
from chunkspool.operations.history import read_history
from chunkspool.settings import LogSettings
from chunkspool.spool.digest_keeper import DigestKeeper
from chunkspool.store import scripts
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import NewEvents

TURNS, DELTAS, TOOLS_EVERY, RUNS = 1_000, 100, 10, 5
QUESTION = "What happened then, and what did the keeper of the lighthouse say when the boat came back?"
REQUEST = ({"role": "user", "content": QUESTION},)
MOST_MS, MOST_MS_UNREAD = 100.0, 2_000.0
TICK = 0.01


def measure(environment: Environment) -> list[Figure]:
    """Measure the reading of one chat: by people, and by the worker that claims its next generation."""
    chat = _write_chat(environment)
    unread = _time(partial(_read_history, environment, chat, LogSettings()))
    _keep_digest(environment, chat)
    with closing(Spool.from_settings(Settings.checked({"redis_url": environment.url}))) as spool:
        events = [
            entry.event
            for start in range(0, spool.status(chat.keys.chat_id).last, 10_000)
            for entry in spool.read(chat.keys.chat_id, start, limit=10_000)
        ]
        snapshot = spool.snapshot(chat.keys.chat_id)
        shown, folded, ordered, given, everything = measure_medians(
            RUNS,
            partial(_time, lambda: spool.snapshot(chat.keys.chat_id)),
            partial(_time, lambda: fold(events)),
            partial(_time, lambda: conversation(snapshot.answers)),
            partial(_time, partial(_read_history, environment, chat, LogSettings())),
            partial(_time, partial(_read_history, environment, chat, _without_limit())),
        )
    budget = LogSettings()
    return [
        Figure(f"a chat of {TURNS:,} turns", f"{len(events):,} events, every {TOOLS_EVERY}th turn with a tool"),
        at_most("fold of all events, one by one", folded, 1_000, " ms"),
        at_most("snapshot: read from the digest, and folded", shown, 1_000, " ms"),
        at_most(f"conversation of {TURNS + 1:,} answers", ordered, MOST_MS, " ms"),
        at_most(
            f"history at the claim, {budget.history_messages} messages",
            given,
            MOST_MS,
            " ms",
            _tell(environment, chat, budget),
        ),
        at_most("… all of it", everything, 1_000, " ms", _tell(environment, chat, _without_limit())),
        at_most(
            f"… {budget.history_messages} messages, nothing of the chat was read before", unread, MOST_MS_UNREAD, " ms"
        ),
    ]


def _without_limit() -> LogSettings:
    return LogSettings(history_messages=100_000, history_characters=100_000_000)


def _tell(environment: Environment, chat: ReadyChat, settings: LogSettings) -> str:
    messages = _read_history(environment, chat, settings)
    return f"{len(messages):,} messages, {sum(len(str(message['content'])) for message in messages):,} characters"


def _time(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return (time.perf_counter() - began) * 1000


def _read_history(environment: Environment, chat: ReadyChat, settings: LogSettings) -> tuple[ModelMessage, ...]:
    store = environment.store

    def perform(effect: Effect) -> object:
        # It pauses only where somebody else reads the same chat.
        return store.send(effect) if isinstance(effect, ScriptCall | Transaction) else None

    return drive(read_history(chat.keys, chat.generation_id, REQUEST, settings), perform)


def _write_chat(environment: Environment) -> ReadyChat:
    """Write a chat; its newest generation has been claimed and has said nothing."""
    chat = ReadyChat(ChatKeys("default", environment.new_name()), "")
    for turn in range(TURNS):
        _ask(environment, chat)
        events = (chat.event,) * DELTAS
        if turn % TOOLS_EVERY == 0:
            call = ToolCallEvent(generation_id=chat.generation_id, id=f"c{turn}", name="clock", arguments="{}")
            result = ToolResultEvent(generation_id=chat.generation_id, id=f"c{turn}", output={"time": "12:00"})
            events = (encode(call), encode(result), *events)
        environment.store.send(chat.next_append(events))
        environment.end(chat)
    _ask(environment, chat)
    return chat


def _ask(environment: Environment, chat: ReadyChat) -> None:
    generation_id = chat.generation_id = new_generation_id()
    chat.index = 1
    question = MessageEvent(generation_id=generation_id, id=f"{generation_id}.1", role="user", content=QUESTION)
    queued = GenerationQueued(generation_id=generation_id, answers=question.id)
    environment.store.send(
        scripts.enqueue(
            chat.keys,
            generation_id,
            b'{"messages":[{"role":"user","content":"?"}],"history":true}',
            model=None,
            active=(),
            on_active="reject",
            ttl_ms=TTL_MS,
            events=NewEvents((encode(question),), 0, encode(queued)),
        )
    )
    environment.store.send(
        scripts.claim(chat.keys, generation_id, token=generation_id, lease_ms=LEASE_MS, max_attempts=3, model="a-model")
    )


def _keep_digest(environment: Environment, chat: ReadyChat) -> None:
    """Keep the digest, as workers do while they write."""
    keeper = DigestKeeper(environment.client)
    keeper.note(chat.keys, has_large=False)
    while not keeper.is_idle:
        time.sleep(TICK)
    keeper.close()


MEASUREMENTS: Measurements = {"conversation": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
