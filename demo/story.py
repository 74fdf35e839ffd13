"""Tell the demo's story: an answer that survives its reader, and one that is stopped. Every step is checked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from rich.console import Console

from chunkspool import AsyncSpool, Entry, fold
from chunkspool.events import GenerationFailed, TextDelta

QUESTION = "Explain in about eight sentences how a lighthouse works, and why ships need it."
LONG_QUESTION = "Write a very long story about the keeper of a lighthouse."
LEAVE_AFTER = 12
STOP_AFTER = 8


class StoryFailed(Exception):
    """A step of the story did not turn out as promised."""


async def tell(spool: AsyncSpool, console: Console) -> None:
    """Tell both chapters in a chat of their own. Raises `StoryFailed`."""
    chat_id = f"demo-{int(time.time())}"
    await _chapter_of_the_refresh(spool, console, chat_id)
    await _chapter_of_the_stop(spool, console, chat_id)


async def _chapter_of_the_refresh(spool: AsyncSpool, console: Console, chat_id: str) -> None:
    console.rule(f"[bold]1. Ask, leave, come back[/] · chat {chat_id}", align="left")
    asked = await spool.enqueue(chat_id, QUESTION, params={"max_tokens": 220})
    console.print(f"[dim]enqueue returned generation {asked.id}, cursor {asked.after}[/]\n[bold]you:[/] {QUESTION}")
    first = [entry async for entry in _until_texts(spool, console, chat_id, asked.after, LEAVE_AFTER)]
    cut = first[-1].seq
    console.print(f"\n[yellow]── the tab is closed at seq {cut}; the worker writes on ──[/]")
    console.print(f"[green]── a new tab resumes from cursor {cut} ──[/]")
    second = [entry async for entry in _until_texts(spool, console, chat_id, cut, None)]
    whole = await _whole(spool, chat_id)
    _demand(not isinstance(whole[-1].event, GenerationFailed), f"the model failed: {whole[-1].raw.decode()}")
    _demand([*first, *second] == whole, "both halves together are not the whole log")
    _demand([entry.seq for entry in whole] == list(range(1, len(whole) + 1)), "the seqs have a hole or a repeat")
    console.print(
        f"\n[green]✓[/] {len(first)} + {len(second)} events make the whole log of {len(whole)}: seq 1 to {len(whole)}, "
        f"no gap, no duplicate; the answer has {len(_answer(whole))} characters\n"
    )


async def _chapter_of_the_stop(spool: AsyncSpool, console: Console, chat_id: str) -> None:
    console.rule("[bold]2. Stop[/]", align="left")
    asked = await spool.enqueue(chat_id, LONG_QUESTION)
    console.print(f"[bold]you:[/] {LONG_QUESTION}")
    before = [entry async for entry in _until_texts(spool, console, chat_id, asked.after, STOP_AFTER)]
    began = time.perf_counter()
    await spool.stop(chat_id, asked.id, reason="the demo has read enough")
    after = [entry async for entry in _until_texts(spool, console, chat_id, before[-1].seq, None)]
    seconds = time.perf_counter() - began
    _demand(after[-1].type == "generation.stopped", f"the last event is {after[-1].type}, not generation.stopped")
    status = await spool.status(chat_id)
    _demand(not status.active, "a generation is still active after the stop")
    console.print(
        f"\n[green]✓[/] stopped: generation.stopped is the last event, seen by the reader {seconds * 1000:.0f} ms "
        "after the button\n"
    )


async def _until_texts(
    spool: AsyncSpool, console: Console, chat_id: str, after: int, texts: int | None
) -> AsyncIterator[Entry]:
    """Yield and print entries after the cursor; leave after so many texts, or when the chat is idle."""
    async with spool.subscribe(chat_id, after) as entries:
        async for entry in entries:
            if isinstance(entry.event, TextDelta):
                console.print(entry.event.text, end="", markup=False, highlight=False, soft_wrap=True)
                texts = None if texts is None else texts - 1
            yield entry
            if texts == 0:
                return


async def _whole(spool: AsyncSpool, chat_id: str) -> list[Entry]:
    entries: list[Entry] = []
    while page := await spool.read(chat_id, entries[-1].seq if entries else 0):
        entries += page
    return entries


def _answer(entries: list[Entry]) -> str:
    return fold(entry.event for entry in entries)[0].text


def _demand(kept: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as an assertion does
    if not kept:
        raise StoryFailed(otherwise)
