"""Runs a command that ends when its parent process ends, even if that is killed.

`python tether.py PARENT_PID COMMAND …`. It runs as a script, so it can import only the standard library.
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
    # SIGKILL, not SIGTERM: without its parent, nobody would notice a command that ignores the request. A Redis with an
    # append-only file loses nothing: it has written everything to the kernel before it answers.
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(watch(parent, command))
    # The parent may have died before the line above; then no signal will ever come.
    if os.getppid() != parent:
        sys.exit("the parent process has ended")
    try:
        os.execvp(command[0], command)  # noqa: S606 - the command line is ours, and it needs no shell
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


def watch(parent: int, command: list[str]) -> int:
    """Run `command` as a child and kill it when `parent` has ended: for systems whose kernel cannot do that."""
    signals: list[int] = []
    # Installed before the child exists: a SIGTERM in between would end this process and leave the child behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    child = subprocess.Popen(command)  # noqa: S603 - the command line is ours
    while os.getppid() == parent and not signals:
        try:
            return child.wait(POLL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    if signals:
        child.terminate()
    else:
        child.kill()
    return child.wait()


def main(arguments: list[str]) -> NoReturn:
    """Run the command with the kind of tether that this system has."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        become(parent, command)
    sys.exit(watch(parent, command))


if __name__ == "__main__":
    main(sys.argv[1:])
