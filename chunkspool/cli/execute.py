"""Executes a command's work and ends the process with the exit code that belongs to its outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import typer

from chunkspool.cli.exit_codes import ExitCode, code_of_error
from chunkspool.cli.terminal import OutputClosed, cancel_on_ctrl_c, discard_output, report
from chunkspool.errors import ChunkspoolError, SettingsError
from chunkspool.spool import AsyncSpool


def run_with_spool(work: Callable[[AsyncSpool], Awaitable[ExitCode]]) -> NoReturn:
    """Do `work` with the environment's spool, and end the command."""

    async def connect_and_work() -> ExitCode:
        with cancel_on_ctrl_c():
            async with AsyncSpool.from_env() as spool:
                return await work(spool)

    run_and_exit(lambda: asyncio.run(connect_and_work()))


def run_and_exit(work: Callable[[], ExitCode]) -> NoReturn:
    """Do `work` and end the command with its exit code. An error becomes one line on standard error."""
    try:
        code = work()
    except ChunkspoolError as error:
        report(str(error))
        code = code_of_error(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        # What is still buffered cannot be flushed if nobody reads the pipe: Python would block there once more at exit.
        discard_output()
        code = ExitCode.INTERRUPTED
    except OutputClosed:
        discard_output()
        code = ExitCode.OUTPUT_CLOSED
    except OSError as error:
        discard_output()
        report(f"the output cannot be written: {error.strerror or error}")
        code = ExitCode.UNAVAILABLE
    raise typer.Exit(code)


def explain_missing(extra: str, work: Callable[[], ExitCode]) -> Callable[[], ExitCode]:
    """Return `work` with a message that says what to install when the extra is missing."""

    def run() -> ExitCode:
        try:
            return work()
        except ModuleNotFoundError as missing:
            raise SettingsError(f"this needs {missing.name}: pip install 'chunkspool[cli,{extra}]'") from missing

    return run
