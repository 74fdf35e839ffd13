"""`chunkspool chats` and `chunkspool title`, as commands."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode

from support.chats.spools import spool_for
from support.processes.command import run


def test_chats_are_listed_and_named(redis_url: str) -> None:
    """In words and as JSON lines, page by page; a title cannot command the terminal or turn its row round."""
    with spool_for(redis_url) as spool:
        for chat, owner in (("first", "ada"), ("second", None)):
            spool.enqueue(chat, "hello", owner=owner)
        spool.set_title("first", "Ünïcode \u202e title")
    listed = run(redis_url, "chats").stdout.splitlines()
    assert [line.split()[-1] for line in listed[:2]] == ["title", "second"]
    assert "queued" in listed[2]
    assert listed[2].endswith("first                                 Ünïcode \ufffd title")
    as_json = [json.loads(line) for line in run(redis_url, "chats", "--json").stdout.splitlines()]
    assert [one["chat_id"] for one in as_json] == ["second", "first"]
    assert as_json[1]["title"] == "Ünïcode \u202e title"
    assert as_json[1]["newest"]["state"] == "queued"
    assert "generation" in as_json[1]["newest"]
    page = run(redis_url, "chats", "--limit", "1", "--json")
    more = page.stderr.split()[-1]
    assert json.loads(run(redis_url, "chats", "--json", "--before", more).stdout)["chat_id"] == "first"
    assert json.loads(run(redis_url, "chats", "--json", "--owner", "ada").stdout)["chat_id"] == "first"


def test_a_title_is_set_and_taken_away(redis_url: str) -> None:
    """What is wrong ends with exit code 2 and says what to do."""
    with spool_for(redis_url) as spool:
        spool.enqueue("chat", "hello")
        assert run(redis_url, "title", "chat", "Spring").returncode == 0
        assert spool.chats().chats[0].title == "Spring"
        assert run(redis_url, "title", "chat").returncode == 0
        assert spool.chats().chats[0].title is None
    wrong = run(redis_url, "title", "chat", "two\nlines")
    assert (wrong.returncode, "one line" in wrong.stderr) == (2, True)
    assert run(redis_url, "title", "other", "x").returncode == 2
    assert run(redis_url, "chats", "--before", "x").returncode == 2


def test_a_token_says_whose_it_is(redis_url: str) -> None:
    """So that it lists their chats, and not the tenant's."""
    own = {"CHUNKSPOOL_TOKEN_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}
    done = run(redis_url, "token", "*", "--action", "list", "--owner", "ada", own=own)
    payload = done.stdout.split(".")[1]
    assert json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["owner"] == "ada"
