"""Shows the entries of a chat: as JSON lines for programs, or as text for people."""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console
from rich.text import Text

from chunkspool.cli.formatting import describe_emptiness, describe_event, is_void, json_line, one_line, plain
from chunkspool.cli.terminal import OutputClosed, report, write_output
from chunkspool.events import (
    DataEvent,
    Ending,
    Entry,
    Event,
    GenerationCompleted,
    GenerationFailed,
    GenerationStarted,
    GenerationStopped,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
)


class Screen(Protocol):
    """Where the entries of a chat are shown."""

    def show(self, entry: Entry) -> None:
        """Show one entry. Raises `OutputClosed`."""

    def note(self, text: str) -> None:
        """Show a remark about the entries. Raises `OutputClosed`."""

    def end_line(self) -> None:
        """End a half line on a terminal, because something else is about to be written there."""


class JsonScreen:
    """One JSON line per entry on standard output, each flushed at once."""

    def show(self, entry: Entry) -> None:
        """Write the entry's line."""
        write_output(json_line(entry))

    def note(self, text: str) -> None:
        """Write the remark to standard error."""
        report(text)

    def end_line(self) -> None:
        """Nothing to do: there are whole lines only."""


class TextScreen:
    """For people: the text of the answers on standard output, everything else on standard error.

    Both streams may be the same terminal. Then a half line of one must be ended before the other writes, or they mix.
    When standard output is a file or a pipe, it gets the answer's own line breaks only.
    """

    def __init__(self) -> None:
        """Start with no half line anywhere."""
        self._console = _StderrConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._share_terminal = sys.stdout.isatty() and sys.stderr.isatty()
        self._answering: str | None = None
        """The generation to which the half line on standard output belongs."""
        self._reasoning = False
        """Whether there is a half line of reasoning on standard error."""
        self._empty: set[str] = set()
        """The generations that were seen to start, and have said nothing so far."""

    def show(self, entry: Entry) -> None:
        """Show one entry."""
        event = entry.event
        is_empty = self._note_emptiness(event)
        if isinstance(event, TextDelta):
            self._show_text(event)
        elif isinstance(event, ReasoningDelta):
            self._show_reasoning(event.text)
        else:
            urgent = isinstance(event, GenerationFailed) or (isinstance(event, GenerationStarted) and is_void(event))
            if urgent or isinstance(event, GenerationCompleted | GenerationStopped):
                # Also in a file: what follows is another answer, or this one from its beginning.
                self._end_answer_line()
            self._show_remark(describe_event(entry, event), "yellow" if urgent else "dim")
            if is_empty and isinstance(event, GenerationCompleted):
                self._show_remark(describe_emptiness(event), "yellow")

    def note(self, text: str) -> None:
        """Show a remark on a line of its own."""
        self._show_remark(text, "yellow")

    def end_line(self) -> None:
        """End half lines on a terminal; a file gets the answer unchanged."""
        self._end_reasoning_line()
        if sys.stdout.isatty():
            self._end_answer_line()

    def _note_emptiness(self, event: Event) -> bool:
        """Note what an event says; return whether its generation has said nothing from its start on."""
        if isinstance(event, GenerationStarted):
            if not event.continues:
                self._empty.add(event.generation_id)
        elif isinstance(event, ToolCallEvent | DataEvent) or (isinstance(event, TextDelta) and event.text.strip()):
            self._empty.discard(event.generation_id)
        elif isinstance(event, Ending) and event.generation_id in self._empty:
            self._empty.discard(event.generation_id)
            return True
        return False

    def _show_text(self, event: TextDelta) -> None:
        self._end_reasoning_line()
        if self._answering != event.generation_id:
            self._end_answer_line()
        text = plain(event.text)
        if text:
            write_output(text.encode(sys.stdout.encoding, "replace"))
            self._answering = None if text.endswith("\n") else event.generation_id

    def _end_answer_line(self) -> None:
        if self._answering is not None:
            self._answering = None
            write_output(b"\n")

    def _show_reasoning(self, text: str) -> None:
        if self._share_terminal:
            self._end_answer_line()
        self._console.print(Text(plain(text)), style="dim italic", end="")
        self._reasoning = not text.endswith("\n")

    def _end_reasoning_line(self) -> None:
        if self._reasoning:
            self._reasoning = False
            self._console.print()

    def _show_remark(self, text: str, style: str) -> None:
        self._end_reasoning_line()
        if self._share_terminal:
            self._end_answer_line()
        self._console.print(Text(f"· {one_line(text)}"), style=style)


class _StderrConsole(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process with code 1; a closed output has a code of its own.
        raise OutputClosed
