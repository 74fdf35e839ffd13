"""How the entries of a chat are shown: as JSON lines, or for people."""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console
from rich.text import Text

from chunkspool.cli.formatting import in_words, is_void, json_line, one_line, plain
from chunkspool.cli.terminal import OutputClosed, complain, put
from chunkspool.events import (
    Entry,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
)


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
        if self._answering != event.generation_id:
            self._end_answer()
        text = plain(event.text)
        if text:
            put(text.encode(sys.stdout.encoding, "replace"))
            self._answering = None if text.endswith("\n") else event.generation_id

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
