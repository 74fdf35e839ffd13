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

from chunkspool.cli.formatting import one_line


class OutputClosed(Exception):
    """Whoever read our output has gone, as `head` does when it has enough."""


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
