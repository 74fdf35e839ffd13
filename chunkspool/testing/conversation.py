"""Reads a chat until nothing in it waits or runs, and checks what was said."""

from __future__ import annotations

import time
from typing import Final

from chunkspool.events import Entry
from chunkspool.fold import Answer, fold
from chunkspool.spool.sync import Spool

TIMEOUT: Final = 10.0
"""Seconds after which a chat that has not ended fails its test."""
_POLL_SECONDS: Final = 0.01
_PAGE: Final = 500


def read_to_end(spool: Spool, chat_id: str, *, after: int | str = 0, timeout: float = TIMEOUT) -> list[Entry]:
    """Wait until no generation of the chat waits or runs; return its entries behind the cursor `after`.

    Raises `AssertionError`, which says what has not ended, after `timeout` seconds; else what `Spool.read` raises.
    """
    _wait_for_end(spool, chat_id, timeout)
    entries: list[Entry] = []
    while page := spool.read(chat_id, entries[-1].cursor if entries else after, _PAGE):
        entries += page
    return entries


def answers_of(spool: Spool, chat_id: str, *, timeout: float = TIMEOUT) -> tuple[Answer, ...]:
    """Read the chat to its end; return its answers, oldest first. Raises what `read_to_end` does."""
    return fold([entry.event for entry in read_to_end(spool, chat_id, timeout=timeout)])


def answer_of(spool: Spool, chat_id: str, generation_id: str | None = None, *, timeout: float = TIMEOUT) -> Answer:
    """Read the chat to its end; return the answer of one generation, the newest unless given.

    Raises what `read_to_end` does, and `AssertionError` if there is no such answer.
    """
    answers = answers_of(spool, chat_id, timeout=timeout)
    found = [answer for answer in answers if generation_id in {None, answer.generation_id}]
    if not found:
        raise AssertionError(f"chat {chat_id!r} has no answer of generation {generation_id!r}; it has {_ids(answers)}")
    return found[-1]


def assert_answers(spool: Spool, chat_id: str, *texts: str, timeout: float = TIMEOUT) -> None:
    """Read the chat to its end; check that its answers are complete and say exactly `texts`, oldest first.

    Raises what `read_to_end` does, and `AssertionError`, which shows how the conversation went.
    """
    answers = answers_of(spool, chat_id, timeout=timeout)
    if [(answer.state, answer.text) for answer in answers] != [("completed", text) for text in texts]:
        expected = "".join(f"\n  completed: {text!r}" for text in texts) or "\n  nothing"
        found = "".join(f"\n  {_describe(answer)}" for answer in answers) or "\n  nothing"
        raise AssertionError(f"in chat {chat_id!r} was expected{expected}\nand found{found}")


def _wait_for_end(spool: Spool, chat_id: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while (status := spool.status(chat_id)).active:
        if time.monotonic() > deadline:
            states = {one.generation_id: one.state for one in status.generations}
            active = ", ".join(f"generation {one} is {states.get(one, 'active')}" for one in status.active)
            hint = "; does the test use the fixture chunkspool_worker?" if "queued" in states.values() else ""
            raise AssertionError(f"chat {chat_id!r} has not ended after {timeout:g} seconds: {active}{hint}")
        time.sleep(_POLL_SECONDS)


def _describe(answer: Answer) -> str:
    why = f" ({answer.error_code}: {answer.error})" if answer.error_code else ""
    return f"{answer.state}: {answer.text!r}{why}"


def _ids(answers: tuple[Answer, ...]) -> str:
    return ", ".join(answer.generation_id for answer in answers) or "none"
