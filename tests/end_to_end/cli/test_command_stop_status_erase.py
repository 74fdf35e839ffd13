"""`chunkspool stop`, `status` and `erase` as processes."""

from __future__ import annotations

import json

import pytest
from redis import Redis
from support.chats.logs import CHAT, ending_of, read_log
from support.chats.spools import claim_and_die
from support.processes.command import ONE_SERVER, Terminal, error_line, run
from support.servers.contents import list_keys

from chunkspool import Generation, Spool
from chunkspool.store.keys import ChatKeys
from chunkspool.store.schedule import hash_of

pytestmark = ONE_SERVER


@pytest.fixture
def asked(spool: Spool) -> Generation:
    """Give a generation that waits for a worker."""
    return spool.enqueue(CHAT, "x")


def find_keys(client: Redis) -> set[str]:
    """Return the keys of chunkspool."""
    return set(list_keys(client))


def test_a_stop_says_what_it_did(redis_url: str, client: Redis, spool: Spool, asked: Generation) -> None:
    """Promise 5: queued ends at once, running is asked to stop, ended is no error; the output says which."""
    done = run(redis_url, "stop", CHAT, "--reason", "enough")
    assert (done.returncode, done.stdout) == (0, f"{asked.generation_id}  stopped\n")
    assert ending_of(read_log(client), asked.generation_id)["reason"] == "enough"
    assert run(redis_url, "stop", CHAT, asked.generation_id).stdout == f"{asked.generation_id}  ended\n"
    nothing = run(redis_url, "stop", CHAT)
    assert nothing.returncode == 0
    assert "nothing is active" in error_line(nothing)
    running = spool.enqueue(CHAT, "y")
    claim_and_die(client, running.generation_id, 60)
    assert run(redis_url, "stop", CHAT, running.generation_id).stdout == f"{running.generation_id}  stopping\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("elsewhere",), "does not exist"),
        ((CHAT, "no-such-generation"), "or no longer has it"),
        ((CHAT, "a b"), "is not a valid id"),
        ((CHAT, "--reason", "x" * 501), "at most 500 characters"),
    ],
)
def test_a_stop_of_something_unknown_is_two(
    redis_url: str, spool: Spool, asked: Generation, arguments: tuple[str, ...], words: str
) -> None:
    """Nothing is stopped by accident."""
    done = run(redis_url, "stop", *arguments)
    assert done.returncode == 2
    assert words in error_line(done)
    assert spool.status(CHAT).active == (asked.generation_id,)


def test_a_status_is_for_people_and_for_programs(redis_url: str, spool: Spool, asked: Generation) -> None:
    """One line per generation, or one JSON object with everything that `Spool.status` returns."""
    told = run(redis_url, "status", CHAT)
    assert told.returncode == 0
    first, _, row = told.stdout.splitlines()
    assert first == "chat chat: seq 1 to 1 is kept for 10 min, 1 active"
    assert row.split()[:4] == [asked.generation_id, "queued", "0", "0"]
    found = json.loads(run(redis_url, "status", CHAT, "--json").stdout)
    status = spool.status(CHAT)
    assert (found["chat_id"], found["first"], found["last"], found["active"]) == (CHAT, 1, 1, [asked.generation_id])
    assert found["generations"][0]["created"] == status.generations[0].created
    assert "does not exist" in error_line(run(redis_url, "status", "elsewhere"))


def test_nothing_remains_of_an_erased_chat(redis_url: str, client: Redis, asked: Generation) -> None:
    """Promise 10: no key is left; a second erase reports that there is no such chat."""
    assert asked.generation_id
    done = run(redis_url, "erase", CHAT, "--yes")
    assert (done.returncode, error_line(done)) == (0, "chunkspool: chat chat was erased")
    assert not find_keys(client)
    again = run(redis_url, "erase", CHAT, "--yes")
    assert again.returncode == 2
    assert "does not exist" in error_line(again)


@pytest.mark.parametrize(
    ("typed", "code", "erased"), [("y\n", 0, True), ("n\n", 0, False), ("\n", 0, False), ("\x03", 130, False)]
)
def test_an_erase_asks_first(
    redis_url: str, client: Redis, asked: Generation, typed: str, code: int, erased: bool
) -> None:
    """Only yes erases; no, Enter and Ctrl-C leave the chat unchanged."""
    assert asked.generation_id
    with Terminal(redis_url, "erase", CHAT) as erase:
        erase.wait_for_text("Erase chat chat up to seq 1, 1 active? [y/N] ")
        erase.type(typed)
        assert erase.wait() == code
    assert ("chat chat was erased" in erase.seen) is erased
    assert bool(find_keys(client)) is not erased
    assert "Traceback" not in erase.seen


def test_an_erase_that_nobody_answers_is_two(redis_url: str, client: Redis, asked: Generation) -> None:
    """A script passes --yes or answers on standard input; without either nothing is erased, and nothing hangs."""
    silent = run(redis_url, "erase", CHAT)
    assert silent.returncode == 2
    assert "pass --yes" in silent.stderr
    assert find_keys(client)
    assert asked.generation_id
    assert run(redis_url, "erase", CHAT, stdin=b"yes\n").returncode == 0
    assert not find_keys(client)


@pytest.mark.parametrize(("typed", "erased"), [("y\n", True), ("n\n", False)])
def test_an_erasure_of_a_person_asks_first(
    redis_url: str, client: Redis, spool: Spool, typed: str, erased: bool
) -> None:
    """Only yes erases; what it says of what it did names nobody and no chat."""
    spool.enqueue("one", "x", owner="ada")
    spool.enqueue("two", "x", owner="ada")
    with Terminal(redis_url, "erase-owner", "ada") as erase:
        erase.wait_for_text("Erase every chat in which ada has asked (2), also where others have? [y/N] ")
        erase.type(typed)
        assert erase.wait() == 0
    told = f"owner {hash_of('default', 'ada')} of tenant default was erased: 2 chats, 2 generations, 0 requests"
    assert (told in erase.seen) is erased
    assert bool(find_keys(client)) is not erased


def test_an_erasure_of_a_person_is_told_to_programs(redis_url: str, client: Redis, spool: Spool) -> None:
    """With --json; a chat that cannot be erased is named, and the exit code is 1. No owner's id is 2."""
    spool.enqueue("one", "x", owner="ada")
    spool.enqueue("two", "x", owner="ada")
    client.rename(ChatKeys("default", "two").gens, "elsewhere")
    client.set(ChatKeys("default", "two").gens, "another program's", ex=600)
    done = run(redis_url, "erase-owner", "ada", "--yes", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["chats"], found["tenant"]) == (1, 1, "default")
    assert [one["chat_id"] for one in found["failed"]] == ["two"]
    assert run(redis_url, "erase-owner", "no one", "--yes").returncode == 2
    assert run(redis_url, "erase-owner", "ada").returncode == 2


@pytest.mark.parametrize("chat", [["-V1StGXR8_hyf"], ["--", "--StGXR8_hyf"]], ids=" ".join)
def test_an_id_may_begin_with_a_dash(redis_url: str, spool: Spool, chat: list[str]) -> None:
    """Every command takes it where it takes an id; a mistyped option is still reported as one."""
    made = spool.enqueue(chat[-1], "x", request_id="-r")
    status = run(redis_url, "status", "--json", *chat)
    assert json.loads(status.stdout)["chat_id"] == chat[-1]
    assert json.loads(run(redis_url, "tail", "--json", *chat).stdout)["generation"] == made.generation_id
    assert run(redis_url, "stop", *chat, made.generation_id).stdout == f"{made.generation_id}  stopped\n"
    assert run(redis_url, "erase", "-y", *chat).returncode == 0
    assert "does not exist" in error_line(run(redis_url, "status", *chat))
    mistyped = run(redis_url, "status", "--jsno", *chat)
    assert (mistyped.returncode, "--jsno" in mistyped.stderr) == (2, True)
