"""The process's terminal: writing to standard output and error, reading an answer, and Ctrl-C."""

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
from chunkspool.errors import InvalidInput


class OutputClosed(Exception):
    """The program that read our output has exited, as `head` does when it has enough."""


def write_output(data: bytes) -> None:
    """Write to standard output and flush. Raises `OutputClosed`, or `OSError` when the disk is full."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def report(text: str) -> None:
    """Write one line to standard error. If that is closed, there is nobody left to tell."""
    with suppress(OSError):
        sys.stderr.write(f"chunkspool: {one_line(text)}\n")
        sys.stderr.flush()


def discard_output() -> None:
    """Redirect standard output to nowhere: at exit, Python flushes its buffer and would complain that it cannot."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())


def is_interactive() -> bool:
    """Tell whether a person would see a question, and could answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def read_answer(question: str) -> str | None:
    """Ask on standard error; return the line that was typed, or None at the end of input.

    Ctrl-C raises `KeyboardInterrupt` at once.
    """
    # The question blocks the event loop, so the handler of `cancel_on_ctrl_c` would not take effect until it returns.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    line = ""
    try:
        sys.stderr.write(question)
        sys.stderr.flush()
        line = _wait_for_line()
    finally:
        signal.signal(signal.SIGINT, handler)
        if not line.endswith("\n"):
            sys.stderr.write("\n")
    return line.strip() if line else None


def confirm_erase(question: str) -> bool:
    """Ask whether something is to be erased. Raises `InvalidInput` where nobody answers."""
    answer = read_answer(question)
    if answer is None:
        raise InvalidInput("nothing was erased, because nobody answered: pass --yes to erase without a question")
    return answer.lower() in {"y", "yes"}


def _wait_for_line() -> str:
    # A plain read has a race: a signal that arrives just before the read begins does not interrupt it, and its handler
    # would wait for the next key press. Python writes a byte to the wake-up pipe for every signal, and select watches
    # that pipe as well.
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
def cancel_on_ctrl_c() -> Iterator[None]:
    """Cancel the block's task at every Ctrl-C.

    asyncio's own handler cancels it at the first Ctrl-C only. At the second it raises `KeyboardInterrupt` in whichever
    task is running, and asyncio then reports that task's exception on standard error.
    """
    loop, task, pending = asyncio.get_running_loop(), asyncio.current_task(), False

    def cancel_task() -> None:
        nonlocal pending
        pending = False
        if task is not None:
            task.cancel()

    def handle_sigint(*_: object) -> None:
        nonlocal pending
        # The first Ctrl-C has not reached the loop: it is blocked, probably in a write that nobody reads (a pager that
        # holds the pipe). No cancellation can arrive there, only an exception.
        if pending:
            raise KeyboardInterrupt
        pending = True
        loop.call_soon_threadsafe(cancel_task)

    before = signal.signal(signal.SIGINT, handle_sigint)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@asynccontextmanager
async def cancel_on_closed_output() -> AsyncIterator[None]:
    """Cancel the block and raise `OutputClosed` as soon as the program that read our output has exited.

    A write would notice it, too. But while the chat is silent there is nothing to write.
    """
    loop, out = asyncio.get_running_loop(), sys.stdout.fileno()
    is_pipe = stat.S_ISFIFO(os.fstat(out).st_mode)
    limit = asyncio.timeout(None)

    def expire_limit() -> None:
        loop.remove_reader(out)
        limit.reschedule(loop.time())

    try:
        async with limit:
            # The writing end of a pipe becomes "readable" when its other end is closed, and never before.
            if is_pipe:
                loop.add_reader(out, expire_limit)
            try:
                yield
            finally:
                if is_pipe:
                    loop.remove_reader(out)
    except TimeoutError:
        # A time-out of the block's own is not ours to translate.
        if limit.expired():
            raise OutputClosed from None
        raise
