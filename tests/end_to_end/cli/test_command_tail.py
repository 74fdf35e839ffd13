"""`chunkspool tail` as a process: stored events, new events, JSON lines, and everything that can go wrong."""

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
    """Give a queued generation; the test is the worker that runs it."""
    return spool.enqueue(CHAT, "x")


def write_answer(spool: Spool, text: str, ending: str = "completed") -> None:
    """Write a whole generation into the chat: queued, started, the text, an ending."""
    generation = spool.enqueue(CHAT, "x")
    with suppress(ProviderError), spool.produce(CHAT, generation.generation_id) as out:
        out.text(text)
        if ending == "stopped":
            eventually(lambda: spool.read(CHAT)[-1].type == "text.delta")
            spool.stop(CHAT, generation.generation_id)
        if ending == "failed":
            raise ProviderError("c", "No.", retryable=False)


def forge(client: Redis, raw: bytes) -> None:
    """Write an entry into the log as another program would."""
    seq = client.incr(KEYS.seq)
    client.xadd(KEYS.log, {"t": 1, "e": raw}, id=f"{seq}-0")


def test_it_prints_the_stored_events_and_exits(redis_url: str, spool: Spool, asked: Generation) -> None:
    """Like tail: it does not wait for a running generation; the text is unchanged."""
    with spool.produce(CHAT, asked.generation_id) as out:
        out.text("one [red]two[/red]\n")
        out.text("half a li")
        eventually(lambda: b"half a li" in spool.read(CHAT)[-1].raw)
        done = run(redis_url, "tail", CHAT)
        assert (done.returncode, done.stdout) == (0, "one [red]two[/red]\nhalf a li")
        assert run(redis_url, "tail", CHAT, "--after", str(spool.status(CHAT).last)).stdout == ""


@pytest.mark.parametrize(
    ("finish", "words"),
    [
        ("content_filter", "the answer is empty: the provider's content filter withheld it"),
        ("refusal", "the answer is empty: the model declined to answer"),
        ("stop", "the answer is empty"),
    ],
)
def test_an_empty_answer_says_so(redis_url: str, spool: Spool, asked: Generation, finish: str, words: str) -> None:
    """With the reason, if there is one; reasoning is no answer, and a half answer is not empty."""
    with spool.produce(CHAT, asked.generation_id) as out:
        out.reasoning("Hm.")
        out.finish(finish)
    half = spool.enqueue(CHAT, "y")
    with spool.produce(CHAT, half.generation_id) as out:
        out.text("half")
        out.finish(finish)
    done = run(redis_url, "tail", CHAT)
    assert done.stdout == "half\n"
    assert [line for line in done.stderr.splitlines() if "empty" in line] == [f"· {words}"]


@pytest.mark.parametrize(("ending", "code"), [("completed", 0), ("stopped", 3), ("failed", 4)])
def test_with_follow_the_exit_code_is_the_ending(redis_url: str, spool: Spool, ending: str, code: int) -> None:
    """With -f the exit code is that of the last generation; without -f it is 0."""
    write_answer(spool, "one\n", "failed" if ending == "completed" else "completed")
    write_answer(spool, "two", ending)
    followed = run(redis_url, "tail", CHAT, "-f")
    assert followed.returncode == code
    assert followed.stdout == "one\ntwo\n"
    assert run(redis_url, "tail", CHAT).returncode == 0


def test_json_lines_come_one_by_one(redis_url: str, spool: Spool, asked: Generation, client: Redis) -> None:
    """While the generation runs, each event is in the pipe as soon as it is in the log: the stored bytes with a seq."""
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
    """Two generations at once: it ends with the later one; their texts never share a line."""
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


def test_forever_ends_only_with_ctrl_c(redis_url: str, spool: Spool) -> None:
    """An idle chat does not end it, and the next generation is shown; Ctrl-C ends it: code 130, no message."""
    write_answer(spool, "one\n")
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        seen = [json.loads(tail.stdout.readline())["type"] for _ in range(4)]
        write_answer(spool, "two\n", "failed")
        seen += [json.loads(tail.stdout.readline())["type"] for _ in range(4)]
        tail.interrupt()
        assert tail.wait() == (130, "", "")
    assert seen[3] == "generation.completed"
    assert seen[7] == "generation.failed"


@pytest.mark.parametrize("what", [("--follow",), ()])
def test_ctrl_c_leaves_an_output_that_nobody_reads(redis_url: str, spool: Spool, what: tuple[str, ...]) -> None:
    """A pager holds the pipe without reading it: the second Ctrl-C ends the command."""
    for _ in range(4):
        write_answer(spool, "x" * 50_000)
    with RunningCommand(redis_url, "tail", CHAT, *what) as tail:
        full = fcntl.fcntl(tail.stdout, fcntl.F_GETPIPE_SZ) - mmap.PAGESIZE  # a page may be left half empty
        eventually(lambda: _count_unread(tail) > full)
        tail.interrupt()
        eventually(lambda: not _has_pending_signal(tail))
        tail.interrupt()
        eventually(lambda: tail.popen.poll() is not None)
        code, _, told = tail.wait()
    assert code == 130
    assert "Traceback" not in told


def _count_unread(tail: RunningCommand) -> int:
    return int.from_bytes(fcntl.ioctl(tail.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


def _has_pending_signal(tail: RunningCommand) -> bool:
    """Tell whether a signal still waits for the process: a second one of its kind would merge with it."""
    lines = Path(f"/proc/{tail.popen.pid}/status").read_text("ascii").splitlines()
    return any(line.startswith(("SigPnd", "ShdPnd")) and int(line.split()[1], 16) for line in lines)


def test_unknown_types_are_passed_on(redis_url: str, spool: Spool, client: Redis) -> None:
    """A newer worker may write unknown types: `--json` prints their bytes, people get a remark."""
    write_answer(spool, "text")
    forge(client, b'{"type": "future.kind", "generation": "g",\n "deep": {"n": 1.0e3}}')
    known, told = run(redis_url, "tail", CHAT, "--json"), run(redis_url, "tail", CHAT)
    assert known.stdout.splitlines()[-1] == '{"seq":5,"type": "future.kind", "generation": "g",  "deep": {"n": 1.0e3}}'
    assert told.stdout == "text\n"
    assert "event 5 has an unknown type" in told.stderr
    assert (known.returncode, told.returncode) == (0, 0)


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_a_broken_event_does_not_hide_the_rest(
    redis_url: str, spool: Spool, client: Redis, follow: tuple[str, ...]
) -> None:
    """Standard error names it, the events after it are shown, and exit code 1 says that something is missing."""
    write_answer(spool, "one")
    forge(client, b"no JSON")
    write_answer(spool, "two")
    done = run(redis_url, "tail", CHAT, "--json", *follow)
    assert done.returncode == 1
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == [1, 2, 3, 4, 6, 7, 8, 9]
    (line,) = done.stderr.splitlines()
    assert "event 5 cannot be read" in line


@pytest.mark.parametrize("follow", [(), ("--follow",)])
def test_an_expired_cursor_is_five(redis_url: str, spool: Spool, client: Redis, follow: tuple[str, ...]) -> None:
    """Promise 7: nothing is skipped silently; the message names the cursor to continue from, and that cursor works."""
    write_answer(spool, "one")
    client.xtrim(KEYS.log, minid=3, approximate=False)
    done = run(redis_url, "tail", CHAT, *follow)
    assert done.returncode == 5
    assert "events 3 to 4 are kept; continue from cursor 2" in error_line(done)
    assert run(redis_url, "tail", CHAT, "--after", "2", *follow).stdout == "one\n"


@pytest.mark.parametrize("cursor", ["-1", "1.5", "77", "9" * 30, "9" * 5000, "seven", ""])
def test_an_invalid_cursor_is_two(redis_url: str, spool: Spool, cursor: str) -> None:
    """Negative, fractional, future, huge or no number: one line reports it, and nothing is replayed by accident."""
    write_answer(spool, "one")
    done = run(redis_url, "tail", CHAT, "--after", cursor)
    assert done.returncode == 2
    assert "cursor" in error_line(done)


def test_an_unknown_chat_is_two(redis_url: str) -> None:
    """With -f, too: nobody waits for a chat whose name has a typo."""
    for arguments in ((CHAT,), (CHAT, "-f"), ("a{b",)):
        done = run(redis_url, "tail", *arguments)
        assert done.returncode == 2
        assert ("does not exist" if arguments[0] == CHAT else "is not a valid id") in error_line(done)


def test_a_chat_that_is_erased_ends_the_reader(redis_url: str, spool: Spool, asked: Generation) -> None:
    """Nobody waits forever: code 2, as for a chat that never existed."""
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        assert asked.generation_id.encode() in tail.stdout.readline()
        spool.erase(CHAT)
        code, _, told = tail.wait()
    assert code == 2
    assert "does not exist" in told


def test_tenants_stay_apart(redis_url: str, spool: Spool) -> None:
    """CHUNKSPOOL_TENANT applies to the commands, too."""
    write_answer(spool.for_tenant("other"), "theirs")
    assert run(redis_url, "tail", CHAT).returncode == 2
    assert run(redis_url, "tail", CHAT, own={"CHUNKSPOOL_TENANT": "other"}).stdout == "theirs\n"


def test_the_models_text_cannot_command_the_terminal(redis_url: str, spool: Spool) -> None:
    """Escape sequences in text, reasoning, tools and errors are shown, not executed."""
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


def test_a_closed_pipe_ends_it_silently(redis_url: str, spool: Spool) -> None:
    """`| head`: no traceback, no message, and the code of a command whose reader has exited."""
    write_answer(spool, "".join(f"{n}\n" for n in range(20_000)))
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


def test_a_closed_pipe_ends_it_while_nothing_is_written(redis_url: str, spool: Spool, asked: Generation) -> None:
    """`--forever | head -n 1` returns to the prompt although the model is silent."""
    with RunningCommand(redis_url, "tail", CHAT, "--forever", "--json") as tail:
        assert asked.generation_id.encode() in tail.stdout.readline()
        tail.stdout.close()
        assert tail.popen.wait(60) == 141
        assert tail.stderr.read() == b""
    assert spool.status(CHAT).active == (asked.generation_id,)


def test_output_that_cannot_be_written_is_reported(redis_url: str, spool: Spool) -> None:
    """A full disk is exit code 1, not 0."""
    write_answer(spool, "one")
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
def test_a_character_that_the_terminal_lacks_is_replaced(redis_url: str, spool: Spool, encoding: str) -> None:
    """A character outside the locale's encoding becomes a question mark, not a traceback."""
    write_answer(spool, "a 🙂 b")
    done = run(redis_url, "tail", CHAT, own={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout) == (0, "a ? b\n")
