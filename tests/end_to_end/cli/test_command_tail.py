"""`chunkspool tail` as a process: what is there, what comes, JSON lines, and everything that can be wrong."""

from __future__ import annotations

import fcntl
import json
import mmap
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.processes.command import COMMAND, ONE_SERVER, RunningCommand, Terminal, environment, error_line, run
from support.processes.nodes import PROJECT
from support.waiting import eventually

from chunkspool import Generation, Spool
from chunkspool.errors import ProviderError

pytestmark = ONE_SERVER


@pytest.fixture
def asked(spool: Spool) -> Generation:
    """Give a generation that waits for its worker, which is the test."""
    return spool.enqueue(CHAT, "x")


def answer(spool: Spool, text: str, ending: str = "completed") -> None:
    """Write a whole generation into the chat: five events, where there was text."""
    generation = spool.enqueue(CHAT, "x")
    with suppress(ProviderError), spool.produce(CHAT, generation.generation_id) as out:
        out.text(text)
        if ending == "stopped":
            eventually(lambda: spool.read(CHAT)[-1].type == "text.delta")
            spool.stop(CHAT, generation.generation_id)
        if ending == "failed":
            raise ProviderError("c", "No.", retryable=False)


def forge(client: Redis, raw: bytes) -> None:
    """Put an entry into the log as another program would."""
    seq = client.incr(KEYS.seq)
    client.xadd(KEYS.log, {"t": 1, "e": raw}, id=f"{seq}-0")


def test_it_prints_what_is_there_and_exits(redis_url: str, spool: Spool, asked: Generation) -> None:
    """As people know tail: a generation that is under way does not keep it; the text comes as it is."""
    with spool.produce(CHAT, asked.generation_id) as out:
        out.text("one [red]two[/red]\n")
        out.text("half a li")
        eventually(lambda: b"half a li" in spool.read(CHAT)[-1].raw)
        done = run(redis_url, "tail", CHAT)
        assert (done.returncode, done.stdout) == (0, "one [red]two[/red]\nhalf a li")
        assert run(redis_url, "tail", CHAT, "--after", str(spool.status(CHAT).last)).stdout == ""


@pytest.mark.parametrize(("ending", "code"), [("completed", 0), ("stopped", 3), ("failed", 4)])
def test_who_follows_learns_how_it_ended(redis_url: str, spool: Spool, ending: str, code: int) -> None:
    """With -f the exit code is that of the last generation; without, there is nothing to learn: 0."""
    answer(spool, "one\n", "failed" if ending == "completed" else "completed")
    answer(spool, "two", ending)
    followed = run(redis_url, "tail", CHAT, "-f")
    assert followed.returncode == code
    assert followed.stdout == "one\ntwo\n"
    assert run(redis_url, "tail", CHAT).returncode == 0


def test_json_lines_come_one_by_one(redis_url: str, spool: Spool, asked: Generation, client: Redis) -> None:
    """While the generation runs, each event is in the pipe as soon as it is in the log: the stored bytes, and a seq."""
    with RunningCommand(redis_url, "tail", CHAT, "--json", "--follow") as tail:
        with spool.produce(CHAT, asked.generation_id) as out:
            lines = [tail.stdout.readline(), tail.stdout.readline()]
            for n in range(10):
                out.text(f"naïve {n} \x1b")
                lines.append(tail.stdout.readline())
        code, rest, told = tail.wait()
    assert (code, told) == (0, "")
    lines.append(rest.encode())
    stored = [fields[b"e"] for _, fields in client.xrange(KEYS.log)]
    assert lines == [b'{"seq":%d,%s\n' % (n, raw[1:]) for n, raw in enumerate(stored, 1)]
    assert [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))


def test_it_follows_until_idle_and_no_longer(redis_url: str, spool: Spool) -> None:
    """Two generations at once: it ends with the later; their texts share no line."""
    first = spool.enqueue(CHAT, "x")
    second = spool.enqueue(CHAT, "x", on_active="allow")
    with RunningCommand(redis_url, "tail", CHAT, "-f") as tail:
        with spool.produce(CHAT, second.generation_id) as later:
            with spool.produce(CHAT, first.generation_id) as out:
                out.text("first")
                eventually(lambda: b"first" in spool.read(CHAT)[-1].raw)
                later.text("second")
                eventually(lambda: b"second" in spool.read(CHAT)[-1].raw)
                out.text("first again")
            later.text("second again")
        code, text, _ = tail.wait()
    assert (code, text) == (0, "first\nsecond\nfirst again\nsecond again\n")


def test_for_ever_never_ends_by_itself(redis_url: str, spool: Spool) -> None:
    """An idle chat does not end it, the next generation is shown; Ctrl-C does: 130, in silence."""
    answer(spool, "one\n")
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        seen = [json.loads(tail.stdout.readline())["type"] for _ in range(4)]
        answer(spool, "two\n", "failed")
        seen += [json.loads(tail.stdout.readline())["type"] for _ in range(4)]
        tail.interrupt()
        assert tail.wait() == (130, "", "")
    assert seen[3] == "generation.completed"
    assert seen[7] == "generation.failed"


@pytest.mark.parametrize("what", [("--follow",), ()])
def test_ctrl_c_leaves_an_output_that_nobody_takes(redis_url: str, spool: Spool, what: tuple[str, ...]) -> None:
    """A pager that has seen enough holds the pipe: the second Ctrl-C ends the command."""
    for _ in range(4):
        answer(spool, "x" * 50_000)
    with RunningCommand(redis_url, "tail", CHAT, *what) as tail:
        full = fcntl.fcntl(tail.stdout, fcntl.F_GETPIPE_SZ) - mmap.PAGESIZE  # a page may be left half empty
        eventually(lambda: _unread(tail) > full)
        tail.interrupt()
        eventually(lambda: not _pending(tail))
        tail.interrupt()
        eventually(lambda: tail.popen.poll() is not None)
        code, _, told = tail.wait()
    assert code == 130
    assert "Traceback" not in told


def _unread(tail: RunningCommand) -> int:
    return int.from_bytes(fcntl.ioctl(tail.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def _pending(tail: RunningCommand) -> bool:
    """Tell whether the process has yet to take a signal: two of a kind would be one."""
    lines = Path(f"/proc/{tail.popen.pid}/status").read_text("ascii").splitlines()
    return any(line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16) for line in lines)


def test_unknown_types_are_passed_on(redis_url: str, spool: Spool, client: Redis) -> None:
    """A newer worker may write what this version does not know: the bytes as JSON, a remark for people."""
    answer(spool, "text")
    forge(client, b'{"type": "future.kind", "generation": "g",\n "deep": {"n": 1.0e3}}')
    known, told = run(redis_url, "tail", CHAT, "--json"), run(redis_url, "tail", CHAT)
    assert known.stdout.splitlines()[-1] == '{"seq":5,"type": "future.kind", "generation": "g",  "deep": {"n": 1.0e3}}'
    assert told.stdout == "text\n"
    assert "event 5 is of a type unknown here" in told.stderr
    assert (known.returncode, told.returncode) == (0, 0)


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_a_broken_event_does_not_hide_the_rest(
    redis_url: str, spool: Spool, client: Redis, follow: tuple[str, ...]
) -> None:
    """It is named on standard error, what follows is shown, and the exit code says that something is missing: 1."""
    answer(spool, "one")
    forge(client, b"no JSON")
    answer(spool, "two")
    done = run(redis_url, "tail", CHAT, "--json", *follow)
    assert done.returncode == 1
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [1, 2, 3, 4, 6, 7, 8, 9]
    (line,) = done.stderr.splitlines()
    assert "event 5 cannot be read" in line


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_an_expired_cursor_is_five(redis_url: str, spool: Spool, client: Redis, follow: tuple[str, ...]) -> None:
    """Promise 7: nothing is skipped in silence; the message says from where one can go on, and one can."""
    answer(spool, "one")
    client.xtrim(KEYS.log, minid=3, approximate=False)
    done = run(redis_url, "tail", CHAT, *follow)
    assert done.returncode == 5
    assert "events 3 to 4 are kept; continue from cursor 2" in error_line(done)
    assert run(redis_url, "tail", CHAT, "--after", "2", *follow).stdout == "one\n"


@pytest.mark.parametrize("cursor", ["-1", "1.5", "77", "9" * 30, "9" * 5000, "seven", ""])
def test_a_cursor_that_cannot_be_is_two(redis_url: str, spool: Spool, cursor: str) -> None:
    """Negative, fractional, future, huge or no number: one line says so, and nothing is replayed by accident."""
    answer(spool, "one")
    done = run(redis_url, "tail", CHAT, "--after", cursor)
    assert done.returncode == 2
    assert "cursor" in error_line(done)


def test_an_unknown_chat_is_two(redis_url: str) -> None:
    """Also for who would follow: nobody waits for a chat with a typo in its name."""
    for arguments in ((CHAT,), (CHAT, "-f"), ("a{b",)):
        done = run(redis_url, "tail", *arguments)
        assert done.returncode == 2
        assert ("does not exist" if arguments[0] == CHAT else "is not an id") in error_line(done)


def test_a_chat_that_is_erased_ends_the_reader(redis_url: str, spool: Spool, asked: Generation) -> None:
    """Nobody waits for ever: 2, as for a chat that never was."""
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        assert asked.generation_id.encode() in tail.stdout.readline()
        spool.erase(CHAT)
        code, _, told = tail.wait()
    assert code == 2
    assert "does not exist" in told


def test_tenants_stay_apart(redis_url: str, spool: Spool) -> None:
    """CHUNKSPOOL_TENANT counts here as everywhere."""
    answer(spool.for_tenant("other"), "theirs")
    assert run(redis_url, "tail", CHAT).returncode == 2
    assert run(redis_url, "tail", CHAT, own={"CHUNKSPOOL_TENANT": "other"}).stdout == "theirs\n"


def test_the_models_text_cannot_command_the_terminal(redis_url: str, spool: Spool) -> None:
    """Escape sequences of text, thinking, tools and errors are shown, not obeyed."""
    generation = spool.enqueue(CHAT, "x")
    with suppress(ProviderError), spool.produce(CHAT, generation.generation_id) as out:
        out.reasoning("\x1b]0;title\x07")
        out.text("\x1b[2J\x9b2Jcleared?\r\n")
        out.tool_call("\x1b[1m", "\x1b[2m", "\x1b[3m")
        out.data("\x1b[4m", "\x9b5m")
        raise ProviderError("c", "\x1b[6m\nsecond line", retryable=False)
    with Terminal(redis_url, "tail", CHAT) as tail:
        assert tail.wait() == 0
    assert "␛[2J\ufffd2Jcleared?\n" in tail.seen
    assert not {"\x1b", "\x9b", "\x07"} & set(tail.seen)
    assert "failed (c): ␛[6m second line" in tail.seen


def test_a_pipe_that_is_closed_ends_it_in_silence(redis_url: str, spool: Spool) -> None:
    """`| head`: no traceback, no message, the code of a command whose reader has gone."""
    answer(spool, "".join(f"{n}\n" for n in range(20_000)))
    line = f"{' '.join(COMMAND)} tail {CHAT} --json | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(  # noqa: S603 - the line above
        ["bash", "-c", line],  # noqa: S607 - the shell that people have
        cwd=PROJECT,
        env=environment(redis_url),
        capture_output=True,
        timeout=60,
        check=False,
    )
    first, code = done.stdout.splitlines()
    assert json.loads(first)["seq"] == 1
    assert (code, done.stderr) == (b"141", b"")


def test_a_pipe_that_is_closed_ends_it_though_nothing_comes(redis_url: str, spool: Spool, asked: Generation) -> None:
    """`--forever | head -n 1` gives the terminal back while the model is silent."""
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        assert asked.generation_id.encode() in tail.stdout.readline()
        tail.stdout.close()
        assert tail.popen.wait(60) == 141
        assert tail.stderr.read() == b""
    assert spool.status(CHAT).active == (asked.generation_id,)


def test_output_that_cannot_be_written_is_said(redis_url: str, spool: Spool) -> None:
    """A full disk is no success."""
    answer(spool, "one")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(  # noqa: S603 - the project's own command
            [*COMMAND, "tail", CHAT, "--json"],
            cwd=PROJECT,
            env=environment(redis_url),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == b"chunkspool: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character_gets_another(redis_url: str, spool: Spool, encoding: str) -> None:
    """What the locale cannot say is replaced, and is no traceback."""
    answer(spool, "a 🙂 b")
    done = run(redis_url, "tail", CHAT, own={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout) == (0, "a ? b\n")
