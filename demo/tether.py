"""Run a command that ends when the process that asked for it ends, however that one ends.

`python tether.py PARENT_PID COMMAND …`. It is run as a script, so it may import nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.5


def become(parent: int, command: list[str]) -> NoReturn:
    """Turn this process into `command`, which the kernel kills when its parent dies (Linux)."""
    # SIGKILL, not SIGTERM: with its parent gone nobody would notice a command that takes its time.
    # An append-only file loses nothing by it: Redis hands every write to the kernel before it answers.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(watch(parent, command))
    # The parent may have died before the line above; then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("the process that asked for this one is gone")
    try:
        os.execvp(command[0], command)  # noqa: S606 - a command line of ours, and no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def watch(parent: int, command: list[str]) -> int:
    """Run `command` as a child and end it when `parent` is gone: for systems whose kernel does not do it."""
    asked: list[int] = []
    # Before the child is there, so that no SIGTERM can fall between the two and orphan it.
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    child = subprocess.Popen(command)  # noqa: S603 - a command line of ours
    while os.getppid() == parent and not asked:
        try:
            return child.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    if asked:
        child.terminate()
    else:
        child.kill()
    return child.wait()


def main(arguments: list[str]) -> NoReturn:
    """Take the tether that this system has."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        become(parent, command)
    sys.exit(watch(parent, command))


if __name__ == "__main__":
    main(sys.argv[1:])
