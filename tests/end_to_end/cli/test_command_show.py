"""`chunkspool show` and `chunkspool fork`, and asking for another version, as commands."""

from __future__ import annotations

import json

from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import spool_for
from support.processes.command import ONE_SERVER, RunningCommand, error_line, run
from support.waiting import eventually

from chunkspool import Spool

pytestmark = ONE_SERVER
KEEPING = {"CHUNKSPOOL_KEEP_MESSAGES": "true"}


def answer(spool: Spool, generation_id: str, text: str) -> str:
    """Play the worker."""
    with spool.produce(CHAT, generation_id) as out:
        out.text(text)
    return generation_id


def test_a_conversation_is_shown_and_forked(redis_url: str) -> None:
    """In words and as one document; the fork is another chat."""
    with spool_for(redis_url, keep_messages=True) as spool:
        first = answer(spool, spool.enqueue(CHAT, "Why is \u202ethe sky blue?").generation_id, "Air\x1b[31m.")
        second = answer(spool, spool.enqueue(CHAT, replaces=first).generation_id, "Rayleigh.")
        at = spool.read(CHAT)[3].cursor
    shown = run(redis_url, "show", CHAT)
    assert (shown.returncode, shown.stderr) == (0, "")
    lines = shown.stdout.splitlines()
    assert lines[0] == f"chat {CHAT}: 2 answers up to seq 9, 1 of which do not count"
    assert [line for line in lines if line.startswith("  ")] == ["  Why is \ufffdthe sky blue?", "  Rayleigh."]
    assert "completed, version 2 of 2" in shown.stdout
    document = json.loads(run(redis_url, "show", CHAT, "--json").stdout)
    assert [one["text"] for one in document["answers"]] == ["Air\x1b[31m.", "Rayleigh."]
    (turn,) = document["turns"]
    assert (turn["answer"], turn["versions"]) == (second, [first, second])
    assert [one["content"] for one in document["messages"]] == ["Why is \u202ethe sky blue?"]
    made = run(redis_url, "fork", CHAT, "-new", "--at", at, "--owner", "ada")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "chunkspool: chat -new was made, up to seq 5\n")
    assert "stopped by fork" in run(redis_url, "show", "-new").stdout
    again = run(redis_url, "fork", CHAT, "-new")
    assert (again.returncode, "exists already" in error_line(again)) == (2, True)
    assert run(redis_url, "show", "nothing").returncode == 2


def test_what_cannot_be_shown_is_told(redis_url: str, client: Redis) -> None:
    """The rest is shown all the same; the exit code says that something is missing."""
    with spool_for(redis_url, keep_messages=True) as spool:
        for text in ("first", "second", "third"):
            answer(spool, spool.enqueue(CHAT, text).generation_id, text.upper())
    question = client.xrange(KEYS.log, "6-0", "6-0")
    assert b"second" in question[0][1][b"e"]
    client.xdel(KEYS.log, "6-0", "9-0")
    shown = run(redis_url, "show", CHAT)
    assert shown.returncode == 1
    assert ["FIRST" in shown.stdout, "SECOND" in shown.stdout, "THIRD" in shown.stdout] == [True, False, True]
    assert len(shown.stderr.splitlines()) == 2


def test_another_version_is_asked_for(redis_url: str, client: Redis) -> None:
    """Of an answer, without a prompt; of a question, with one. The model may get the history, or not."""
    with spool_for(redis_url, keep_messages=True) as spool:
        first = answer(spool, spool.enqueue(CHAT, "Why?").generation_id, "So.")
        for arguments, history, texts in (
            (["--replaces", first], True, ["Why?"]),
            (["How?", "--replaces", first, "--no-history"], False, ["How?"]),
            (["Really?", "--history"], True, ["How?", "Really?"]),
        ):
            with RunningCommand(redis_url, "ask", CHAT, *arguments, own=KEEPING) as ask:
                found: bytes = eventually(lambda: client.hget(KEYS.head, "active"), 60)
                stored = json.loads(client.hget(KEYS.gen(found.decode()), "request"))
                assert stored.get("history", False) == history
                answer(spool, found.decode(), "Because.")
                code, said, _ = ask.wait()
            assert (code, said) == (0, "Because.\n")
            assert [turn.messages[0].content for turn in spool.snapshot(CHAT).conversation] == texts
