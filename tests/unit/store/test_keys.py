"""Keys are built in one module, a chat's keys share one slot, and no two keys are equal."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest
from redis.crc import key_slot

from chunkspool.errors import InvalidId
from chunkspool.store.keys import REPUBLISHED, STOPS, SWEEP_LOCK, UNFINISHED, WATERMARK, ChatKeys, place_of

PROJECT = Path(__file__).parents[3]
CODE = [
    path for folder in ("chunkspool", "tasks", "worker", "demo", "bench") for path in (PROJECT / folder).rglob("*.py")
]
SCRIPTS = list((PROJECT / "chunkspool" / "store" / "lua").glob("*.lua"))


def keys_of_chat(tenant: str, chat: str) -> list[str]:
    """Return every key of a chat with one generation and one request."""
    keys = ChatKeys(tenant, chat)
    own = [getattr(keys, name) for name, value in vars(ChatKeys).items() if isinstance(value, property)]
    return [*own, keys.gen("one"), keys.request("one")]


def test_all_keys_of_a_chat_are_in_one_slot() -> None:
    """One script may access all of them on Redis Cluster."""
    for tenant, chat in (("default", "chat"), ("a.b", "user:42@example.org"), ("x" * 128, "y" * 128)):
        assert len({key_slot(key.encode()) for key in keys_of_chat(tenant, chat)}) == 1


def test_the_sweeps_keys_are_in_one_slot() -> None:
    """Places and their index are written together."""
    assert (
        len({key_slot(key.encode()) for key in (UNFINISHED, REPUBLISHED, WATERMARK, SWEEP_LOCK, place_of("one"))}) == 1
    )


def test_no_two_keys_are_the_same() -> None:
    """Whatever the ids: a chat named like another's generation, a tenant named like a chat."""
    ids = ["a", "gen:one", "log", "request:one", "places", "unended"]
    chats = [key for tenant, chat in product(["a", "log", "places"], ids) for key in keys_of_chat(tenant, chat)]
    # An id may be anything, including the name of one of the index's keys.
    index_names = [key.rpartition(":")[2] for key in (UNFINISHED, REPUBLISHED, WATERMARK, SWEEP_LOCK)]
    places = [place_of(one) for one in ("one", "two", "a.b", *index_names)]
    every = [*chats, *places, UNFINISHED, REPUBLISHED, WATERMARK, SWEEP_LOCK, STOPS]
    assert len(set(every)) == len(every)


def test_every_id_in_a_key_is_checked() -> None:
    """No key can be built without the check."""
    for make in (
        lambda: ChatKeys("a/b", "c"),
        lambda: ChatKeys("a", "b/c"),
        lambda: ChatKeys("a", "b").gen("x}"),
        lambda: ChatKeys("a", "b").request("x}"),
        lambda: ChatKeys("a", "b").unfinished("x y"),
        lambda: place_of("x}"),
    ):
        with pytest.raises(InvalidId):
            make()


def test_every_key_is_built_in_one_module() -> None:
    """No other module and no script spells out a key's name."""
    assert len(CODE) > 40
    misplaced = [
        f"{path.relative_to(PROJECT)}:{node.lineno}"
        for path in CODE
        if path.name != "keys.py"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(("cs:", "cs{"))
    ]
    assert misplaced == []
    assert {path.name for path in SCRIPTS} >= {"append.lua", "claim.lua", "enqueue.lua", "erase.lua", "stop.lua"}
    for path in SCRIPTS:
        code = [line.partition("--")[0] for line in path.read_text("utf-8").splitlines()]
        assert not [line for line in code if "cs:" in line], path.name
