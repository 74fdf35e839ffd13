"""Showing a chat's entries on a screen: what is there, what comes, and what Ctrl-C means meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chunkspool.cli.exit_codes import ExitCode, code_of_ending
from chunkspool.cli.screen import Screen
from chunkspool.cli.terminal import answer_to, somebody_is_there, while_somebody_reads
from chunkspool.errors import CorruptLog
from chunkspool.events import Entry, GenerationCompleted, GenerationFailed, GenerationStopped
from chunkspool.results import Generation
from chunkspool.spool import AsyncSpool

QUESTION = "Stop the generation, or only leave it? Type s to stop, Enter to leave: "


@dataclass(slots=True)
class Follower:
    """Shows the entries after `seq`, each once, and remembers where it stands. `only`: those of one generation."""

    spool: AsyncSpool
    chat_id: str
    screen: Screen
    seq: int = 0
    only: str | None = None
    ended: ExitCode = ExitCode.DONE
    unreadable: bool = False

    @property
    def code(self) -> ExitCode:
        """The exit code: how the last generation ended that did, unless something of it was not shown."""
        return ExitCode.UNAVAILABLE if self.unreadable else self.ended

    async def show_kept(self) -> ExitCode:
        """Show what is there. Raises what `AsyncSpool.read` does, and `OutputClosed`."""
        last = (await self.spool.status(self.chat_id)).last
        while True:
            try:
                entries = await self.spool.read(self.chat_id, self.seq)
            except CorruptLog as error:
                self._pass_over(error)
                continue
            for entry in entries:
                self._show(entry)
            if not entries or self.seq >= last:
                self.screen.rest()
                # How its generations ended is for those who follow them.
                return ExitCode.UNAVAILABLE if self.unreadable else ExitCode.DONE

    async def follow(self, until: str) -> ExitCode:
        """Show what is there and what comes. Raises what `AsyncSpool.subscribe` does, and `OutputClosed`."""
        try:
            async with while_somebody_reads(), self.spool.subscribe(self.chat_id, self.seq, until=until) as entries:
                while True:
                    try:
                        self._show(await anext(entries))
                    except CorruptLog as error:
                        self._pass_over(error)
                    except StopAsyncIteration:
                        return self.code
        finally:
            self.screen.rest()

    def _show(self, entry: Entry) -> None:
        self.seq = entry.seq
        if self.only in {None, entry.generation_id}:
            if isinstance(entry.event, GenerationCompleted | GenerationStopped | GenerationFailed):
                self.ended = code_of_ending(entry.event)
            self.screen.show(entry)

    def _pass_over(self, error: CorruptLog) -> None:
        if error.seq is None:
            raise error
        self.seq = error.seq
        self.unreadable = True
        self.screen.note(str(error))


async def ask(spool: AsyncSpool, chat_id: str, request: Mapping[str, Any], screen: Screen) -> ExitCode:
    """Enqueue a generation and follow it to its ending; `request` is what `AsyncSpool.enqueue` takes.

    Ctrl-C cancels this task: then ask, once, whether to stop the generation. The answer "leave" cancels it for good.
    """
    follower = Follower(spool, chat_id, screen)
    asked = asyncio.ensure_future(spool.enqueue(chat_id, **request))
    try:
        return await _follow_one(follower, await asyncio.shield(asked))
    except asyncio.CancelledError:
        # What is on its way to a worker arrives there; otherwise nobody would know what to stop.
        generation = await asked
        if not _is_to_stop(follower, generation):
            raise
        await spool.stop(chat_id, generation.generation_id)
        return await _follow_one(follower, generation)


async def _follow_one(follower: Follower, generation: Generation) -> ExitCode:
    follower.only = generation.generation_id
    follower.seq = max(follower.seq, generation.after)
    return await follower.follow(generation.generation_id)


def _is_to_stop(follower: Follower, generation: Generation) -> bool:
    stop = False
    try:
        stop = somebody_is_there() and (answer_to(QUESTION) or "").lower().startswith("s")
    finally:
        if not stop:
            after = max(follower.seq, generation.after)
            follower.screen.note(
                f"left; the generation goes on: chunkspool tail {follower.chat_id} --after {after} --follow"
            )
    return stop
