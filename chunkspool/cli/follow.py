"""Shows a chat's entries on a screen: those it has, those to come, and what Ctrl-C does meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chunkspool.cli.exit_codes import ExitCode, code_of_ending
from chunkspool.cli.screen import Screen
from chunkspool.cli.terminal import cancel_on_closed_output, is_interactive, read_answer
from chunkspool.errors import CorruptLog
from chunkspool.events import Entry, GenerationCompleted, GenerationFailed, GenerationStopped
from chunkspool.results import Generation
from chunkspool.spool import AsyncSpool

QUESTION = "Stop the generation, or leave it running? Type s to stop, Enter to leave: "


@dataclass(slots=True)
class ChatFollower:
    """Shows the entries after `cursor`, each once, and remembers its place. `only` limits it to one generation."""

    spool: AsyncSpool
    chat_id: str
    screen: Screen
    cursor: int | str = 0
    only: str | None = None
    ended: ExitCode = ExitCode.DONE
    unreadable: bool = False

    @property
    def code(self) -> ExitCode:
        """The exit code: that of the last ending shown, unless an entry could not be shown."""
        return ExitCode.UNAVAILABLE if self.unreadable else self.ended

    @property
    def seq(self) -> int:
        """The seq of the cursor."""
        return int(str(self.cursor).partition(".")[0])

    async def show_kept(self) -> ExitCode:
        """Show the entries that the chat has now. Raises what `AsyncSpool.read` does, and `OutputClosed`."""
        # Entries that arrive meanwhile are not shown: a generation that writes faster than we read must not hold us.
        last = (await self.spool.status(self.chat_id, generation_ids=())).last
        while True:
            try:
                entries = await self.spool.read(self.chat_id, self.cursor)
            except CorruptLog as error:
                self._skip_unreadable(error)
                continue
            for entry in entries:
                self._show(entry)
            if not entries or self.seq >= last:
                self.screen.end_line()
                # Only those who follow a generation want its ending as the exit code.
                return ExitCode.UNAVAILABLE if self.unreadable else ExitCode.DONE

    async def follow(self, until: str) -> ExitCode:
        """Show the entries that the chat has and those to come.

        Raises what `AsyncSpool.subscribe` does, and `OutputClosed`.
        """
        try:
            async with (
                cancel_on_closed_output(),
                self.spool.subscribe(self.chat_id, self.cursor, until=until) as entries,
            ):
                while True:
                    try:
                        self._show(await anext(entries))
                    except CorruptLog as error:
                        self._skip_unreadable(error)
                    except StopAsyncIteration:
                        return self.code
        finally:
            self.screen.end_line()

    def _show(self, entry: Entry) -> None:
        self.cursor = entry.cursor
        if self.only in {None, entry.generation_id}:
            if isinstance(entry.event, GenerationCompleted | GenerationStopped | GenerationFailed):
                self.ended = code_of_ending(entry.event)
            self.screen.show(entry)

    def _skip_unreadable(self, error: CorruptLog) -> None:
        if error.seq is None:
            raise error  # it is not one entry that is broken, but a key: there is nothing to skip
        self.cursor = error.seq
        self.unreadable = True
        self.screen.note(str(error))


async def ask(spool: AsyncSpool, chat_id: str, request: Mapping[str, Any], screen: Screen) -> ExitCode:
    """Enqueue a generation and follow it to its ending; `request` is what `AsyncSpool.enqueue` takes.

    Ctrl-C cancels this task, which then asks once whether to stop the generation. If the answer is no, it stays
    cancelled.
    """
    follower = ChatFollower(spool, chat_id, screen)
    enqueueing = asyncio.ensure_future(spool.enqueue(chat_id, **request))
    try:
        return await _follow_generation(follower, await asyncio.shield(enqueueing))
    except asyncio.CancelledError:
        # The enqueue is shielded and finishes: a worker may have the generation already, and without its id nobody
        # here could stop it.
        generation = await enqueueing
        if not _ask_whether_to_stop(follower, generation):
            raise
        await spool.stop(chat_id, generation.generation_id)
        return await _follow_generation(follower, generation)


async def _follow_generation(follower: ChatFollower, generation: Generation) -> ExitCode:
    follower.only = generation.generation_id
    if follower.seq < generation.after:
        follower.cursor = generation.after
    return await follower.follow(generation.generation_id)


def _ask_whether_to_stop(follower: ChatFollower, generation: Generation) -> bool:
    stop = False
    try:
        stop = is_interactive() and (read_answer(QUESTION) or "").lower().startswith("s")
    finally:
        # Also when another Ctrl-C interrupts the question.
        if not stop:
            after = max(follower.seq, generation.after)  # a person types it: without the mark of the log
            follower.screen.note(
                f"left; the generation keeps running: chunkspool tail {follower.chat_id} --after {after} --follow"
            )
    return stop
