"""The exit codes of the commands, and the error or ending that leads to each."""

from __future__ import annotations

from enum import IntEnum
from typing import Self, assert_never

from chunkspool.errors import (
    ChatBusy,
    ChatExists,
    ChatNotFound,
    ChunkspoolError,
    CursorAhead,
    CursorExpired,
    GenerationNotFound,
    InvalidInput,
)
from chunkspool.events import Ending, GenerationCompleted, GenerationFailed, GenerationStopped


class ExitCode(IntEnum):
    """A code and its meaning, which `--help` and docs/reference/cli.md show."""

    meaning: str

    DONE = 0, "completed, or the command did its work"
    UNAVAILABLE = (
        1,
        "Redis or broker unreachable, full or rejects us; limit reached; corrupt log; output failed; doctor: warnings",
    )
    USAGE = (
        2,
        "invalid usage, setting or cursor; no such chat or generation; a chat is busy, or exists; doctor: errors",
    )
    STOPPED = 3, "the generation was stopped"
    FAILED = 4, "the generation failed"
    EXPIRED = 5, "the cursor has expired: the events after it are no longer kept"
    INTERRUPTED = 130, "left with Ctrl-C; the generation keeps running"
    OUTPUT_CLOSED = 141, "the program that read the output has exited, as head does"

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a member that is its code, and keep the meaning beside it."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member


def code_of_error(error: ChunkspoolError) -> ExitCode:
    """Return the exit code of a command that ends with `error`."""
    match error:
        case CursorExpired():
            return ExitCode.EXPIRED
        case InvalidInput() | ChatNotFound() | GenerationNotFound() | CursorAhead() | ChatBusy() | ChatExists():
            return ExitCode.USAGE
        case _:
            return ExitCode.UNAVAILABLE


def code_of_ending(ending: Ending) -> ExitCode:
    """Return the exit code of a command that followed a generation to this ending."""
    match ending:
        case GenerationCompleted():
            return ExitCode.DONE
        case GenerationStopped():
            return ExitCode.STOPPED
        case GenerationFailed():
            return ExitCode.FAILED
        case _:
            assert_never(ending)
