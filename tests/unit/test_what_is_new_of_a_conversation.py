"""Of whatever part of a conversation a request repeats, what the log lacks is found."""

from __future__ import annotations

import random

import pytest

from chunkspool.operations.what_is_new import Spoken, find_new


def spoken(text: str) -> list[Spoken]:
    """Read "u:hello a:- a+:- t:7": roles and texts; a+ calls tools, a! and t! are shown differently by a client."""
    roles = {"u": "user", "a": "assistant", "t": "tool"}
    return [
        Spoken(roles[word[0]], f"{word[0]}:{said}", has_calls="+" in word, is_shown="!" in word)
        for word, said in (part.split(":") for part in text.split())
    ]


@pytest.mark.parametrize(
    ("log", "request_", "new"),
    [
        ("", "u:1", "u:1"),
        ("u:1", "u:1 a:- u:2", "u:2"),
        ("u:1", "u:1", "u:1"),
        # An answer failed, or its text was left out.
        ("u:1", "u:1 u:2", "u:2"),
        ("u:1", "u:1 u:1", "u:1"),
        ("u:1 u:2", "u:1 u:2 u:3", "u:3"),
        # The app begins the answer.
        ("u:1", "u:1 a:- u:2 a:{", "u:2 a:{"),
        ("u:1", "u:1 a:{", "u:1 a:{"),
        ("u:0", "a:{", "a:{"),
        # The app runs tools by itself, and sends all of it at once, or only what is new.
        ("u:1", "u:1 a:- u:2 a+:c t:7", "u:2 a+:c t:7"),
        ("u:1", "u:2 a+:c t:7", "u:2 a+:c t:7"),
        ("u:1", "u:2 a+:c t:7 a+:d t:8", "u:2 a+:c t:7 a+:d t:8"),
        # The answer in the log has called a tool, which the app has run.
        ("u:1", "u:1 a+:c t:7", "t:7"),
        ("u:1", "u:1 a+:c t:7 t:8", "t:7 t:8"),
        ("u:1 t:7", "u:1 a+:c t:7 a:- u:2", "u:2"),
        ("u:1 t:7", "u:1 a+:c t:7 u:2", "u:2"),
        ("u:1", "a+:c t:7", "t:7"),
        # Tools of the worker, whose outputs stand in the answer.
        ("u:1", "u:1 a+:c t:7 a:- u:2", "u:2"),
        ("u:1 u:2", "u:1 a+:c t:7 a:- u:2 a+:d t:8 a:- u:3", "u:3"),
        # A question was refused and is asked with the next; it has the text of an earlier one.
        ("u:yes", "u:yes a:b u:yes u:go", "u:yes u:go"),
        ("u:yes u:yes", "u:yes a:- u:yes a:- u:yes", "u:yes"),
        ("u:1 u:yes", "u:yes a:- u:1 a:- u:yes a:- u:go", "u:go"),
        # The end of a conversation alone.
        ("u:1 u:2 u:3", "a:- u:3 a:- u:4", "u:4"),
        ("u:1", "a:- u:2", "u:2"),
        # The app adds to the newest question, and sends it later as it was.
        ("u:1+facts", "u:1 a:- u:2+facts", "u:2+facts"),
        ("u:1+facts", "u:1 a+:c t:7 a:- u:2", "u:2"),
        # A client extends an answer.
        ("u:1", "u:1 a:- a!:more", "a!:more"),
        ("u:1", "u:1 a!:more", "a!:more"),
        ("u:1", "u:1 a+:c t!:7", "t!:7"),
        ("u:0", "u:1 a+:c t!:7", "t!:7"),
    ],
)
def test_what_is_new_is_found(log: str, request_: str, new: str) -> None:
    """And nothing else, where the texts tell."""
    recent = [one.key for one in spoken(log)]
    given = spoken(request_)
    assert [given[at] for at in find_new(given, recent)] == spoken(new)


@pytest.mark.parametrize("seed", range(200))
def test_the_newest_question_is_never_lost(seed: int) -> None:
    """Whatever comes: the last message is new, places are in order, and a client that sends all repeats nothing."""
    choose = random.Random(seed)  # noqa: S311 - no secret
    texts = [choose.choice("abc") for _ in range(choose.randint(1, 8))]
    log = [f"u:{text}" for text in texts[:-1]]
    whole = [one for text in texts for one in (Spoken("user", f"u:{text}"), Spoken("assistant"))][:-1]
    assert find_new(whole, log) == [len(whole) - 1]
    noise = [Spoken(choose.choice(["user", "assistant", "tool"]), f"u:{choose.choice('abc')}") for _ in range(6)]
    places = find_new([*noise, Spoken("user", "u:z")], log)
    assert places == sorted(set(places))
    assert places[-1] == len(noise)
