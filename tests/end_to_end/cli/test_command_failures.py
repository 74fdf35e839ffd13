"""The commands when something is wrong: Redis unreachable or locked, wrong settings, wrong usage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes.command import RunningCommand, error_line, run
from support.servers.redis_server import embedded_server

from chunkspool import Spool

NOBODY = "redis://127.0.0.1:1/0"


@pytest.mark.parametrize(
    "arguments",
    [
        ("ask", "chat", "x"),
        ("tail", "chat"),
        ("tail", "chat", "-f"),
        ("stop", "chat"),
        ("status", "chat"),
        ("erase", "chat"),
    ],
)
def test_unreachable_redis_is_one(arguments: tuple[str, ...]) -> None:
    """Every command says so in one line, without waiting."""
    done = run(NOBODY, *arguments)
    assert done.returncode == 1
    assert "Redis cannot be reached" in error_line(done)


@pytest.mark.parametrize(
    ("url", "own", "words"),
    [
        ("http://somebody:secret@127.0.0.1/0", {}, "CHUNKSPOOL_REDIS_URL=***: write redis://"),
        (NOBODY, {"CHUNKSPOOL_TTL": "abc"}, "CHUNKSPOOL_TTL='abc'"),
        (NOBODY, {"CHUNKSPOOL_TENANT": "a/b"}, "tenant='a/b' is not a valid id"),
    ],
)
def test_a_wrong_setting_is_two(url: str, own: dict[str, str], words: str) -> None:
    """The message names the variable or the URL, never a password."""
    done = run(url, "status", "chat", own=own)
    assert done.returncode == 2
    assert words in error_line(done)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [(), ("tail",), ("dance",), ("ask", "chat"), ("tail", "chat", "--no-such"), ("ask", "c", "x", "--on-active", "y")],
)
def test_wrong_usage_is_two(arguments: tuple[str, ...]) -> None:
    """The message says what is missing or unknown, without a traceback."""
    done = run(NOBODY, *arguments)
    assert done.returncode == 2
    assert "Usage: chunkspool" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_missing_prompt_is_told_in_words_of_the_command_line() -> None:
    """What may be passed instead is an option here, not an argument of Python."""
    done = run(NOBODY, "ask", "chat")
    assert "PROMPT: pass one, or --replaces GENERATION to ask the same again" in done.stderr
    assert "prompt=" not in done.stderr


def test_help_lists_commands_and_exit_codes() -> None:
    """`--help` shows what a person needs first."""
    done = run(NOBODY, "--help")
    assert done.returncode == 0
    for word in ("ask", "tail", "stop", "status", "erase", "CHUNKSPOOL_REDIS_URL", "130  left with Ctrl-C"):
        assert word in done.stdout


@pytest.fixture
def locked_url(tmp_path: Path) -> Iterator[str]:
    """Give the URL of a server that requires a password, with a wrong one."""
    with embedded_server(tmp_path, password="right") as server:
        yield server.url.replace("right", "wrong")


def test_a_wrong_password_is_one(locked_url: str) -> None:
    """Redis rejected the connection: one line says so, without the password."""
    done = run(locked_url, "tail", "chat")
    assert done.returncode == 1
    assert "Redis rejected the connection; check the URL" in error_line(done)
    assert "wrong" not in done.stderr.replace("WRONGPASS", "")


def test_redis_that_disappears_is_one(tmp_path: Path) -> None:
    """A reader that follows waits for `read_timeout`, then reports it."""
    with embedded_server(tmp_path) as server:
        with Spool.from_url(server.url) as own:
            own.enqueue("chat", "x")
        with RunningCommand(server.url, "tail", "chat", "-f", "--json", own={"CHUNKSPOOL_READ_TIMEOUT": "0.5"}) as tail:
            # A question is in the log in front of its generation.
            assert [b'"message"' in tail.stdout.readline(), b"queued" in tail.stdout.readline()] == [True, True]
            server.kill()
            code, _, told = tail.wait()
    assert code == 1
    assert told.startswith("chunkspool: Redis cannot be reached")
    assert len(told.splitlines()) == 1
