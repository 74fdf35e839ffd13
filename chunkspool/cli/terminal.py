"""Where the command line writes, asks and hears Ctrl-C: answers to standard output, all else to standard error."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.text import Text

from chunkspool.cli.formatting import in_words, is_void, json_line, one_line, plain
from chunkspool.events import (
    Entry,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
)


class OutputClosed(Exception):
    """Whoever read our output has gone, as `head` does when it has enough."""


class Screen(Protocol):
    """Where the entries of a chat are shown."""

    def show(self, entry: Entry) -> None:
        """Show one entry. Raises `OutputClosed`."""

    def note(self, text: str) -> None:
        """Say something about them. Raises `OutputClosed`."""

    def rest(self) -> None:
        """Leave no half line on a terminal: something else is about to be written there."""


class JsonLines:
    """One JSON line an entry, flushed one by one."""

    def show(self, entry: Entry) -> None:
        """Write the entry's line."""
        put(json_line(entry))

    def note(self, text: str) -> None:
        """Say it on standard error."""
        complain(text)

    def rest(self) -> None:
        """Nothing to do: there are whole lines only."""


class Readable:
    """For people: the answers' text on standard output, all the rest on standard error."""

    def __init__(self) -> None:
        """Begin with an empty line."""
        self._console = _Notes(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._both = sys.stdout.isatty() and sys.stderr.isatty()
        self._answering: str | None = None
        """The generation to which the half line on standard output belongs."""
        self._thinking = False
        """Whether there is a half line on standard error."""

    def show(self, entry: Entry) -> None:
        """Show one entry."""
        event = entry.event
        if isinstance(event, TextDelta):
            self._answer(event)
        elif isinstance(event, ReasoningDelta):
            self._think(event.text)
        else:
            urgent = isinstance(event, GenerationFailed) or (isinstance(event, GenerationStarted) and is_void(event))
            if urgent or isinstance(event, GenerationCompleted | GenerationStopped):
                self._end_answer()
            self._remark(in_words(entry, event), "yellow" if urgent else "dim")

    def note(self, text: str) -> None:
        """Say something on a line of its own."""
        self._remark(text, "yellow")

    def rest(self) -> None:
        """End half lines that stand on a terminal; a file gets the answer as it is."""
        self._end_thought()
        if sys.stdout.isatty():
            self._end_answer()

    def _answer(self, event: TextDelta) -> None:
        self._end_thought()
        if self._answering != event.generation:
            self._end_answer()
        text = plain(event.text)
        if text:
            put(text.encode(sys.stdout.encoding, "replace"))
            self._answering = None if text.endswith("\n") else event.generation

    def _end_answer(self) -> None:
        if self._answering is not None:
            self._answering = None
            put(b"\n")

    def _think(self, text: str) -> None:
        if self._both:
            self._end_answer()
        self._console.print(Text(plain(text)), style="dim italic", end="")
        self._thinking = not text.endswith("\n")

    def _end_thought(self) -> None:
        if self._thinking:
            self._thinking = False
            self._console.print()

    def _remark(self, text: str, style: str) -> None:
        self._end_thought()
        if self._both:
            self._end_answer()
        self._console.print(Text(f"· {one_line(text)}"), style=style)


class _Notes(Console):
    def on_broken_pipe(self) -> None:
        raise OutputClosed


def put(data: bytes) -> None:
    """Write to standard output, at once. Raises `OutputClosed`, or `OSError` where there is no room."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def complain(text: str) -> None:
    """Say what is wrong, in one line on standard error; where nobody listens, there is nobody to tell."""
    with suppress(OSError):
        sys.stderr.write(f"chunkspool: {one_line(text)}\n")
        sys.stderr.flush()


def discard_output() -> None:
    """Send what is still unwritten nowhere, so that the interpreter's end does not complain of it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def somebody_is_there() -> bool:
    """Tell whether a question would be seen, and answered by a person."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def answer_to(question: str) -> str | None:
    """Ask on standard error; return the line that was typed, None where there is none. Ctrl-C raises at once."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    line = ""
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        line = _typed_line()
    finally:
        signal.signal(signal.SIGINT, handler)
        if not line.endswith("\n"):
            sys.stderr.write("\n")
    return line.strip() if line else None


def _typed_line() -> str:
    """Wait for a line. A signal that comes just before a read begins would not end it: the wake-up pipe does."""
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    before = signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    try:
        while sys.stdin not in select.select([sys.stdin, awake], [], [])[0]:
            os.read(awake, 1)
        return sys.stdin.readline()
    finally:
        signal.set_wakeup_fd(before)
        os.close(awake)
        os.close(waker)


@contextmanager
def cancelled_by_ctrl_c() -> Iterator[None]:
    """Cancel the task that is in the block at every Ctrl-C.

    asyncio does so at the first one only: the second raises in whichever task just runs, which then is complained of.
    One that comes while an earlier one is unheard raises here, too: an output that nobody takes holds the loop.
    """
    loop, task, unheard = asyncio.get_running_loop(), asyncio.current_task(), False

    def hear() -> None:
        nonlocal unheard
        unheard = False
        if task is not None:
            task.cancel()

    def interrupt(*_: object) -> None:
        nonlocal unheard
        if unheard:
            raise KeyboardInterrupt
        unheard = True
        loop.call_soon_threadsafe(hear)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@asynccontextmanager
async def while_somebody_reads() -> AsyncIterator[None]:
    """Leave the block with `OutputClosed` when the reader of our output has gone, though there is nothing to write."""
    loop, out = asyncio.get_running_loop(), sys.stdout.fileno()
    is_pipe = stat.S_ISFIFO(os.fstat(out).st_mode)
    limit = asyncio.timeout(None)

    def gone() -> None:
        loop.remove_reader(out)
        limit.reschedule(loop.time())

    try:
        async with limit:
            # The writing end of a pipe becomes "readable" when its other end is closed, and never before.
            if is_pipe:
                loop.add_reader(out, gone)
            try:
                yield
            finally:
                if is_pipe:
                    loop.remove_reader(out)
    except TimeoutError:
        if limit.expired():
            raise OutputClosed from None
        raise
