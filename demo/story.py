"""Tells the demo's story: an answer that survives its reader, and one that is stopped. Every step is checked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable

from rich.console import Console

from chunkspool import AsyncSpool, Entry, fold
from chunkspool.events import GenerationCompleted, GenerationFailed, TextDelta

QUESTION = "Explain in about eight sentences how a lighthouse works, and why ships need it."
LONG_QUESTION = "Write a very long story about the keeper of a lighthouse."
LEAVE_AFTER = 6
STOP_AFTER = 6
TRIES = 3


Chapter = Callable[[AsyncSpool, Console, str], Awaitable[bool]]
"""Tells a part of the story; returns False if the answer ended too soon to show it."""


class StoryFailed(Exception):
    """A step of the story did not turn out as promised."""


async def tell(spool: AsyncSpool, console: Console) -> None:
    """Tell both chapters, in a new chat. Raises `StoryFailed`."""
    chat_id = f"demo-{int(time.time())}"
    console.rule(f"[bold]1. Ask, leave, come back[/] · chat {chat_id}", align="left")
    await _tell_until_shown(_tell_of_leaving, spool, console, chat_id)
    console.rule("[bold]2. Stop[/]", align="left")
    await _tell_until_shown(_tell_of_stopping, spool, console, chat_id)


async def _tell_until_shown(chapter: Chapter, spool: AsyncSpool, console: Console, chat_id: str) -> None:
    # A small model sometimes answers in three words, and nobody can leave an answer in its middle if it has none.
    for _ in range(TRIES):
        if await chapter(spool, console, chat_id):
            return
        console.print("\n[yellow]── the answer was too short to show it; once more ──[/]")
    raise StoryFailed(f"the model's answers were too short, {TRIES} times")


async def _tell_of_leaving(spool: AsyncSpool, console: Console, chat_id: str) -> bool:
    asked = await spool.enqueue(chat_id, QUESTION, params={"max_tokens": 220})
    console.print(
        f"[dim]enqueue returned generation {asked.generation_id}, cursor {asked.after}[/]\n[bold]you:[/] {QUESTION}"
    )
    first = [entry async for entry in _print_texts(spool, console, chat_id, asked.after, LEAVE_AFTER)]
    _require_no_failure(first)
    if isinstance(first[-1].event, GenerationCompleted):
        return False
    cut = first[-1].seq
    console.print(f"\n[yellow]── the tab is closed at seq {cut}; the worker keeps writing ──[/]")
    console.print(f"[green]── a new tab resumes from cursor {cut} ──[/]")
    second = [entry async for entry in _print_texts(spool, console, chat_id, cut, None)]
    _require_no_failure(second)
    whole = await _read_all(spool, chat_id, asked.after)
    _require([*first, *second] == whole, "the two halves together are not the whole log")
    numbers = list(range(asked.after + 1, asked.after + 1 + len(whole)))
    _require([entry.seq for entry in whole] == numbers, "the seqs have a gap or a duplicate")
    console.print(
        f"\n[green]✓[/] {len(first)} + {len(second)} events make the whole log of {len(whole)}: "
        f"seq {numbers[0]} to {numbers[-1]}, no gaps, no duplicates; "
        f"the answer has {len(_answer_text(whole))} characters\n"
    )
    return True


async def _tell_of_stopping(spool: AsyncSpool, console: Console, chat_id: str) -> bool:
    asked = await spool.enqueue(chat_id, LONG_QUESTION)
    console.print(f"[bold]you:[/] {LONG_QUESTION}")
    before = [entry async for entry in _print_texts(spool, console, chat_id, asked.after, STOP_AFTER)]
    began = time.perf_counter()
    await spool.stop(chat_id, asked.generation_id, reason="the demo has read enough")
    after = [entry async for entry in _print_texts(spool, console, chat_id, before[-1].seq, None)]
    seconds = time.perf_counter() - began
    last = [*before, *after][-1]
    _require_no_failure([last])
    if isinstance(last.event, GenerationCompleted):
        return False
    _require(last.type == "generation.stopped", f"the last event is {last.type}, not generation.stopped")
    status = await spool.status(chat_id)
    _require(not status.active, "a generation is still active after the stop")
    console.print(
        f"\n[green]✓[/] stopped: generation.stopped is the last event, and reached the reader {seconds * 1000:.0f} ms "
        "after the stop was asked for\n"
    )
    return True


async def _print_texts(
    spool: AsyncSpool, console: Console, chat_id: str, after: int, texts: int | None
) -> AsyncIterator[Entry]:
    """Yield the entries after the cursor and print their text. Ends after `texts` pieces, or when the chat is idle."""
    async with spool.subscribe(chat_id, after) as entries:
        async for entry in entries:
            if isinstance(entry.event, TextDelta):
                console.print(entry.event.text, end="", markup=False, highlight=False, soft_wrap=True)
                texts = None if texts is None else texts - 1
            yield entry
            if texts == 0:
                return


async def _read_all(spool: AsyncSpool, chat_id: str, after: int) -> list[Entry]:
    entries: list[Entry] = []
    while page := await spool.read(chat_id, entries[-1].seq if entries else after):
        entries += page
    return entries


def _answer_text(entries: list[Entry]) -> str:
    return fold(entry.event for entry in entries)[0].text


def _require(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads like an assertion
    if not kept:
        raise StoryFailed(otherwise)


def _require_no_failure(entries: list[Entry]) -> None:
    last = entries[-1]
    _require(not isinstance(last.event, GenerationFailed), f"the model failed: {last.raw.decode()}")
