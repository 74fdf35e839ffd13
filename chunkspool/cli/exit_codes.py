"""With which code a command ends, and which error or ending leads to it."""

from __future__ import annotations

from enum import IntEnum
from typing import Self, assert_never

from chunkspool.errors import (
    ChatBusy,
    ChatNotFound,
    ChunkspoolError,
    CursorAhead,
    CursorExpired,
    GenerationNotFound,
    InvalidInput,
)
from chunkspool.events import Ending, GenerationCompleted, GenerationFailed, GenerationStopped


class ExitCode(IntEnum):
    """A code and its meaning."""

    meaning: str

    DONE = 0, "completed; the command has done what it was told"
    UNAVAILABLE = 1, "Redis or the broker is away, full or refuses us; or the log, or the output, is broken"
    USAGE = 2, "wrong usage, setting or cursor; no such chat or generation; the chat is busy"
    STOPPED = 3, "the generation was stopped"
    FAILED = 4, "the generation failed"
    EXPIRED = 5, "the cursor has expired: what comes after it is no longer kept"
    INTERRUPTED = 130, "left by Ctrl-C; the generation goes on"
    OUTPUT_CLOSED = 141, "whoever read the output has gone, as head does"

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member of its code and its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


def code_of_error(error: ChunkspoolError) -> ExitCode:
    """Return the code of a command that ends with `error`."""
    match error:
        case CursorExpired():
            return ExitCode.EXPIRED
        case InvalidInput() | ChatNotFound() | GenerationNotFound() | CursorAhead() | ChatBusy():
            return ExitCode.USAGE
        case _:
            return ExitCode.UNAVAILABLE


def code_of_ending(ending: Ending) -> ExitCode:
    """Return the code of a command that follows a generation which ends so."""
    match ending:
        case GenerationCompleted():
            return ExitCode.DONE
        case GenerationStopped():
            return ExitCode.STOPPED
        case GenerationFailed():
            return ExitCode.FAILED
        case _:
            assert_never(ending)
