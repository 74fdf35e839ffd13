"""`chunkspool ask` as a process: the answer on standard output, its exit codes, and Ctrl-C."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import pytest
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_generation_field, read_log
from support.chats.spools import claim_and_die
from support.processes.command import ONE_SERVER, RunningCommand, Terminal, error_line, run
from support.waiting import eventually

from chunkspool import Producer, Spool
from chunkspool.errors import ProviderError
from chunkspool.events import TextDelta, encode
from chunkspool.store import scripts
from chunkspool.store.client import Store

pytestmark = ONE_SERVER
NOBODY = "redis://127.0.0.1:1/0"


def wait_for_generation(client: Redis) -> str:
    """Wait until the command has enqueued its generation; return its id. The test is the worker that runs it."""
    found: bytes = eventually(lambda: client.hget(KEYS.head, "active"), 60)
    return found.decode()


def write_and_wait(terminal: Terminal, out: Producer, text: str) -> None:
    """Write a text, and wait until the terminal shows it."""
    out.text(text)
    terminal.wait_for_text(text)


def test_an_answer_is_all_that_standard_output_gets(redis_url: str, client: Redis, spool: Spool) -> None:
    """The text is unchanged, with a final newline; reasoning, tools, tokens and state go to standard error; code 0."""
    with RunningCommand(
        redis_url, "ask", CHAT, "Why?", "--model", "m", "--param", "temperature=0.2", "--param", "a=b"
    ) as ask:
        with spool.produce(CHAT, wait_for_generation(client)) as out:
            assert out.request.messages == ({"role": "user", "content": "Why?"},)
            assert (out.request.model, out.request.params) == ("m", {"temperature": 0.2, "a": "b"})
            out.reasoning("Hm…")
            out.text("Because [bold]it[/bold]\n")
            out.tool_call("c1", "clock", "{}")
            out.text("is so")
            out.text("…")
            out.usage(3, 5)
        code, answer, told = ask.wait()
    assert (code, answer) == (0, "Because [bold]it[/bold]\nis so…\n")
    for words in ("is queued", "started with model m", "Hm…", "calls the tool clock", "3 tokens in", "· completed"):
        assert words in told


def test_a_failed_generation_is_four(redis_url: str, client: Redis, spool: Spool) -> None:
    """The person who asked sees the provider's message."""
    with RunningCommand(redis_url, "ask", CHAT, "Why?") as ask:
        with suppress(ProviderError), spool.produce(CHAT, wait_for_generation(client)) as out:
            out.text("half")
            raise ProviderError("rate_limited", "The model is busy.", retryable=True)
        code, answer, told = ask.wait()
    assert (code, answer) == (4, "half\n")
    assert "failed (rate_limited): The model is busy. Asking again may help." in told


def test_a_stopped_generation_is_three(redis_url: str, client: Redis, spool: Spool) -> None:
    """The person who asked sees who stopped it and why."""
    with RunningCommand(redis_url, "ask", CHAT, "Why?") as ask:
        wait_for_generation(client)
        spool.stop(CHAT, reason="too long")
        code, answer, told = ask.wait()
    assert (code, answer) == (3, "")
    assert "stopped by user: too long" in told


def test_a_restart_is_announced(redis_url: str, client: Redis, spool: Spool) -> None:
    """Promise 9: the earlier attempt's text is void; the answer restarts on a line of its own."""
    with RunningCommand(redis_url, "ask", CHAT, "Why?") as ask:
        generation = wait_for_generation(client)
        claim_and_die(client, generation, 0.05)
        with spool.produce(CHAT, generation, wait=30) as out:
            assert out.attempt == 2
            out.text("anew")
        code, answer, told = ask.wait()
    assert (code, answer) == (0, "anew\n")
    assert "attempt 2 started: the earlier text is void" in told


def test_void_text_and_the_new_answer_share_no_line(redis_url: str, client: Redis, spool: Spool) -> None:
    """Standard output cannot take text back, but the two must not run into each other."""
    with RunningCommand(redis_url, "ask", CHAT, "Why?") as ask:
        generation = wait_for_generation(client)
        claim_and_die(client, generation, 0.2)
        said = encode(TextDelta(generation_id=generation, text="The sky is"))
        append = scripts.append(KEYS, generation, attempt=1, index=1, lease_ms=1, events=[said], ending=None)
        assert Store(client).send(append).outcome == "ok"
        with spool.produce(CHAT, generation, wait=30) as out:
            out.text("The sky is blue.")
        code, answer, _ = ask.wait()
    assert (code, answer) == (0, "The sky is\nThe sky is blue.\n")


def test_json_lines_are_those_of_the_generation(redis_url: str, client: Redis, spool: Spool) -> None:
    """Only events of the question's generation, although another one writes, too; nothing on standard error."""
    other = spool.enqueue(CHAT, "x")
    with RunningCommand(redis_url, "ask", CHAT, "Why?", "--on-active", "allow", "--json") as ask:
        mine: str = eventually(lambda: ids[1] if len(ids := wait_for_generation(client).split()) > 1 else "", 60)
        with spool.produce(CHAT, other.generation_id) as out, spool.produce(CHAT, mine) as my_out:
            out.text("not mine")
            my_out.text("mine")
        code, lines, told = ask.wait()
    assert (code, told) == (0, "")
    events = [json.loads(line) for line in lines.splitlines()]
    assert {event["generation"] for event in events} == {mine}
    assert [event["seq"] for event in events] == [
        line.seq for line in read_log(client) if line.event["generation"] == mine
    ]
    assert events[-1]["type"] == "generation.completed"


def test_the_same_request_id_shows_the_same_generation(redis_url: str, client: Redis, spool: Spool) -> None:
    """Asking again after a lost terminal enqueues no second generation."""
    generation = spool.enqueue(CHAT, "Why?", request_id="r1")
    with spool.produce(CHAT, generation.generation_id) as out:
        out.text("Because.")
    again = run(redis_url, "ask", CHAT, "Why?", "--request-id", "r1")
    assert (again.returncode, again.stdout) == (0, "Because.\n")
    assert len([line for line in read_log(client) if line.type == "generation.queued"]) == 1


def test_a_busy_chat_is_an_error_and_can_be_replaced(redis_url: str, client: Redis, spool: Spool) -> None:
    """Two questions never mix by accident."""
    first = spool.enqueue(CHAT, "x")
    assert run(redis_url, "ask", CHAT, "y").returncode == 2
    with RunningCommand(redis_url, "ask", CHAT, "y", "--on-active", "replace") as ask:
        eventually(lambda: wait_for_generation(client) != first.generation_id, 60)
        with spool.produce(CHAT, wait_for_generation(client)) as out:
            out.text("fine")
        assert ask.wait()[:2] == (0, "fine\n")
    assert ending_of(read_log(client), first.generation_id)["by"] == "replace"


def test_the_prompt_may_come_from_standard_input(redis_url: str, client: Redis) -> None:
    """It may be longer than a command line can be; a prompt that is no text, or too long, is rejected in one line."""
    small = {"CHUNKSPOOL_MAX_REQUEST_BYTES": "1024"}
    bad = [
        run(redis_url, "ask", CHAT, "-", stdin=b" \n"),
        run(redis_url, "ask", CHAT, "-", stdin=b"\xff"),
        run(redis_url, "ask", CHAT, b"\xff"),
        run(redis_url, "ask", CHAT, "-", stdin=b"x" * 2000, own=small),
        run(redis_url, "ask", CHAT, "x", "--param", "no-value"),
    ]
    assert [done.returncode for done in bad] == [2] * 5
    for done, word in zip(bad, ("empty", "UTF-8", "UTF-8", "max_request_bytes", "NAME=VALUE"), strict=True):
        assert word in error_line(done)
    assert not client.exists(KEYS.seq)


def test_an_unreachable_broker_is_one(redis_url: str, client: Redis) -> None:
    """Promise 11: the failed enqueue is reported, and the generation has ended."""
    done = run(redis_url, "ask", CHAT, "x", own={"CHUNKSPOOL_BROKER_URL": NOBODY})
    assert done.returncode == 1
    assert "the broker did not take the message" in error_line(done)
    assert read_log(client)[-1].event["code"] == "enqueue_failed"


def test_ctrl_c_without_a_terminal_leaves(redis_url: str, client: Redis) -> None:
    """There is nobody to ask: code 130, the generation keeps running, and a line says how to return to it."""
    with RunningCommand(redis_url, "ask", CHAT, "x") as ask:
        generation = wait_for_generation(client)
        assert b"queued" in ask.stderr.readline()
        ask.interrupt()
        code, answer, told = ask.wait()
    assert (code, answer) == (130, "")
    assert told.strip() == f"· left; the generation keeps running: chunkspool tail {CHAT} --after 1 --follow"
    assert read_generation_field(client, generation, "stop") is None


def test_ctrl_c_in_a_terminal_can_stop(redis_url: str, client: Redis, spool: Spool) -> None:
    """The answer s stops the generation; the person sees its ending, with no gaps and no duplicates; code 3."""
    with Terminal(redis_url, "ask", CHAT, "x") as ask:
        with spool.produce(CHAT, wait_for_generation(client)) as out:
            write_and_wait(ask, out, "one ")
            ask.type("\x03")
            ask.wait_for_text("to stop, Enter to leave")
            out.text("two ")
            eventually(lambda: spool.read(CHAT)[-1].raw.endswith(b'"two "}'))
            ask.type("s\n")
            eventually(lambda: read_generation_field(client, out.generation_id, "stop"))
        assert ask.wait() == 3
    assert ending_of(read_log(client), out.generation_id)["by"] == "user"
    assert ask.seen.count("one ") == ask.seen.count("two ") == 1
    assert "· stopped by user" in ask.seen
    assert ask.seen.count("Stop the generation") == 1


@pytest.mark.parametrize("answer", ["\n", "\x04", "\x03", "what?\n"])
def test_ctrl_c_in_a_terminal_can_leave(redis_url: str, client: Redis, spool: Spool, answer: str) -> None:
    """Enter, end of input, a second Ctrl-C and any other answer leave it: code 130, the generation keeps running."""
    with Terminal(redis_url, "ask", CHAT, "x") as ask, spool.produce(CHAT, wait_for_generation(client)) as out:
        write_and_wait(ask, out, "one ")
        ask.type("\x03")
        ask.wait_for_text("to stop, Enter to leave")
        ask.type(answer)
        assert ask.wait() == 130
        out.text("two")
    assert "chunkspool tail chat --after 3 --follow" in ask.seen
    assert "Traceback" not in ask.seen
    assert ending_of(read_log(client), out.generation_id)["type"] == "generation.completed"


def test_a_second_ctrl_c_leaves_while_the_stop_is_awaited(redis_url: str, client: Redis) -> None:
    """A dead or slow worker cannot block the person's terminal."""
    with Terminal(redis_url, "ask", CHAT, "x") as ask:
        generation = wait_for_generation(client)
        claim_and_die(client, generation, 60)
        ask.wait_for_text("started")
        ask.type("\x03")
        ask.wait_for_text("to stop, Enter to leave")
        ask.type("s\n")
        eventually(lambda: read_generation_field(client, generation, "stop"))
        ask.type("\x03")
        assert ask.wait() == 130
    assert "Traceback" not in ask.seen


def test_a_terminal_shows_the_rest_on_lines_of_its_own(redis_url: str, client: Redis, spool: Spool) -> None:
    """Half a line of the answer, a remark, the other half: each begins on a new line."""
    with Terminal(redis_url, "ask", CHAT, "x") as ask:
        with spool.produce(CHAT, wait_for_generation(client)) as out:
            out.reasoning("Hm.")
            out.text("one")
            out.tool_call("c1", "clock", "{}")
            out.text("two")
        assert ask.wait() == 0
    assert ask.seen.endswith("Hm.\none\n· calls the tool clock (c1): {}\ntwo\n· completed\n")


def test_many_readers_of_one_answer(redis_url: str, client: Redis, spool: Spool) -> None:
    """Promise 6: a command that joins in mid-answer, by the same request id, prints the whole answer."""
    texts: list[str] = []

    def read() -> None:
        texts.append(run(redis_url, "ask", CHAT, "x", "--request-id", "r").stdout)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with spool.produce(CHAT, wait_for_generation(client)) as out:
        for n in range(100):
            out.text(f"{n} ")
    for reader in readers:
        reader.join()
    assert texts == ["".join(f"{n} " for n in range(100)) + "\n"] * 2
