"""Keys are built in one module, a chat's keys share one slot, and no two keys are equal."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest
from redis.crc import key_slot

from chunkspool.errors import InvalidId
from chunkspool.store.keys import ChatKeys, QueueKeys, place_of, stops_channel

QUEUE = QueueKeys("chunkspool")
INDEX = [QUEUE.unfinished, QUEUE.republished, QUEUE.watermark, QUEUE.sweep_lock]

PROJECT = Path(__file__).parents[3]
CODE = [
    path for folder in ("chunkspool", "tasks", "worker", "demo", "bench") for path in (PROJECT / folder).rglob("*.py")
]
SCRIPTS = list((PROJECT / "chunkspool" / "store" / "lua").glob("*.lua"))


def keys_of_chat(tenant: str, chat: str) -> list[str]:
    """Return every key of a chat with one generation and one request."""
    keys = ChatKeys(tenant, chat)
    own = [
        getattr(keys, name) for name, value in vars(ChatKeys).items() if isinstance(value, property) and name != "stops"
    ]
    return [*own, keys.gen("one"), keys.request("one")]


def test_all_keys_of_a_chat_are_in_one_slot() -> None:
    """One script may access all of them on Redis Cluster."""
    for tenant, chat in (("default", "chat"), ("a.b", "user:42@example.org"), ("x" * 128, "y" * 128)):
        assert len({key_slot(key.encode()) for key in keys_of_chat(tenant, chat)}) == 1


def test_the_sweeps_keys_are_in_one_slot() -> None:
    """Places and their index are written together."""
    assert len({key_slot(key.encode()) for key in (*INDEX, place_of("one"))}) == 1


def test_no_two_keys_are_the_same() -> None:
    """Whatever the ids: a chat named as another's generation, a tenant named as a chat, a queue as a key."""
    ids = ["a", "gen:one", "log", "request:one", "places", "unfinished"]
    chats = [key for tenant, chat in product(["a", "log", "index"], ids) for key in keys_of_chat(tenant, chat)]
    # An id may be anything, including the name of a key of the index.
    places = [place_of(one) for one in ("one", "two", "a.b", *(key.rpartition("}:")[2] for key in INDEX))]
    queues = [QueueKeys(name) for name in ("b", "unfinished", "a:b", "a%3Ab", "{x}", "ä b\n")]
    others = [key for one in queues for key in (one.unfinished, one.republished, one.watermark, one.sweep_lock)]
    every = [*chats, *places, *INDEX, *others, stops_channel(0), stops_channel(1)]
    assert len(set(every)) == len(every)
    assert not [key for key in others if not key.isascii() or " " in key or "\n" in key]


def test_channels_of_two_databases_differ() -> None:
    """Redis's pub/sub knows no database: what is published in one would be heard in the others."""
    assert ChatKeys("default", "chat").live != ChatKeys("default", "chat", 1).live
    assert ChatKeys("default", "chat").stops != ChatKeys("default", "chat", 1).stops
    assert ChatKeys("default", "chat").log == ChatKeys("default", "chat", 1).log


def test_every_id_in_a_key_is_checked() -> None:
    """No key can be built without the check."""
    for make in (
        lambda: ChatKeys("a/b", "c"),
        lambda: ChatKeys("a", "b/c"),
        lambda: ChatKeys("a", "b").gen("x}"),
        lambda: ChatKeys("a", "b").request("x}"),
        lambda: ChatKeys("a", "b").member("x y"),
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
