"""Starts a child process that cannot outlive this one, and stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chunkspool.demo.ports import is_taken

_TETHER = Path(__file__).with_name("tether.py")
_POLL_SECONDS = 0.02


class CannotStart(Exception):
    """A part of the demo cannot be started; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running child in a session of its own, so that Ctrl-C in the terminal reaches only this process.

    This process then stops its children in order.
    """

    name: str
    log: Path
    log_start: int
    popen: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        logs: Path,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Self:
        """Start `command` with its output appended to `logs/name.log`. Only the main thread may do so."""
        # The kernel kills a tethered child when the *thread* that started it ends. The main thread ends last.
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(f"{name}: only the main thread may start tethered processes")
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        with log.open("ab") as out:
            log_start = out.tell()
            popen = subprocess.Popen(  # noqa: S603 - the command lines are the demo's own
                [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        return cls(name, log, log_start, popen)

    @property
    def pid(self) -> int:
        """The child's process id, and that of its process group."""
        return self.popen.pid

    @property
    def alive(self) -> bool:
        """Whether the child is still running."""
        return self.popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child and to its own children."""
        # The id cannot be reused for another process before `poll` has collected the child.
        if self.alive:
            # macOS raises PermissionError if only zombies are left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def terminate(self, timeout: float = 10.0) -> None:
        """Ask the child to exit; after `timeout` seconds kill it and its children."""
        self.popen.terminate()
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the child and its children at once."""
        self.send(signal.SIGKILL)
        self.popen.wait()

    def read_log_tail(self, lines: int = 20) -> str:
        """Return the last lines that this run has written to its log."""
        with self.log.open("rb") as written:
            written.seek(self.log_start)
            text = written.read().decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready()` is true. Raises `CannotStart` if the child exits first, or is killed after `timeout`."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.alive:
                raise CannotStart(self._describe(f"exited with code {self.popen.returncode} while starting"))
            if time.monotonic() > deadline:
                self.kill()
                raise CannotStart(self._describe(f"was not ready after {timeout:g} seconds"))
            time.sleep(_POLL_SECONDS)

    def _describe(self, what: str) -> str:
        return f"{self.name} {what}. The end of {self.log}:\n{self.read_log_tail() or '(it wrote nothing)'}"


def require_free_port(name: str, port: int) -> None:
    """Raise `CannotStart` if another process listens on `port` already."""
    # Checked before the start: later, the other process's answer could be taken for our server being ready.
    if is_taken(port):
        raise CannotStart(f"{name}: port {port} is taken; stop the process that listens there, or choose another port")
