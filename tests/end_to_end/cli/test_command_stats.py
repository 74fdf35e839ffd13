"""`chunkspool stats` as a process: once, again and again, for people and for programs."""

from __future__ import annotations

import json

from support.chats.logs import CHAT
from support.processes.command import ONE_SERVER, RunningCommand, Terminal, error_line, run
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.demo.ports import LOOPBACK, free_port


@ONE_SERVER
def test_it_shows_a_table(redis_url: str, spool: Spool) -> None:
    """What is queued, what runs and how full Redis is."""
    spool.enqueue(CHAT, "x")
    done = run(redis_url, "stats")
    assert done.returncode == 0
    rows = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert rows["queued"].endswith("1 interactive, 0 batch")
    assert rows["running"].endswith(" 0")
    assert "used, no maxmemory" in rows["redis"]
    assert done.stderr == ""


@ONE_SERVER
def test_json_has_all_fields(redis_url: str, spool: Spool) -> None:
    """As `Spool.stats` returns them."""
    spool.enqueue(CHAT, "x")
    done = run(redis_url, "stats", "--json", "-Q", "another")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["queue"] == "another"
    assert found["queued"] == {"interactive": 0, "batch": 0}
    assert found["max_memory"] == 0
    assert found["limits"]["queued"] == 1000


@ONE_SERVER
def test_watch_shows_it_again_in_place_until_ctrl_c(redis_url: str, spool: Spool) -> None:
    """Each table takes the place of the one before; Ctrl-C leaves with 130, and the last table stays."""
    with Terminal(redis_url, "stats", "--watch", term="xterm") as person:
        person.wait_for_text("0 interactive, 0 batch")
        spool.enqueue(CHAT, "x")
        person.wait_for_text("1 interactive, 0 batch")
        person.type(chr(3))
        assert person.wait() == 130
        assert "\x1b[" in person.seen
        assert "Traceback" not in person.seen


@ONE_SERVER
def test_watch_follows_in_a_pipe(redis_url: str) -> None:
    """A line of JSON each time, without escapes; it ends when nobody reads any more."""
    with RunningCommand(redis_url, "stats", "--watch", "--json") as command:
        first, second = (json.loads(command.stdout.readline()) for _ in range(2))
        assert second["at"] - first["at"] >= 1900
        command.stdout.close()
        eventually(lambda: command.popen.poll() is not None)
        assert command.popen.returncode == 141


def test_a_redis_that_is_away_is_one() -> None:
    """One line on standard error; `--watch` goes on trying, until Ctrl-C."""
    away = f"redis://{LOOPBACK}:{free_port()}/0"
    done = run(away, "stats")
    assert done.returncode == 1
    assert "cannot be reached" in error_line(done)
    with RunningCommand(away, "stats", "--watch") as command:
        assert b"trying again" in command.stderr.readline()
        command.interrupt()
        assert command.wait()[0] == 130
