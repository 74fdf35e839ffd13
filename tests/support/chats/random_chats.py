"""Write a chat as people and models do: several generations at once, of all kinds of events and endings."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from random import Random
from typing import Any

from redis import Redis
from support.chats.logs import CHAT, KEYS

from chunkspool import Producer, Spool
from chunkspool.errors import Interrupted

StoredEntry = tuple[int, bytes]
"""An entry's seq and its stored bytes."""
SEED_RANGES = [range(start, start + 25) for start in range(0, 200, 25)]
"""Two hundred seeds, in pieces that run beside each other."""

WRITES: list[Callable[[Producer, str], None]] = [
    lambda out, piece: out.text(piece),
    lambda out, piece: out.text(piece * 50),
    lambda out, piece: out.reasoning(piece),
    lambda out, piece: out.tool_call(piece, "clock", "{}"),
    lambda out, piece: out.tool_result(piece, {"hour": [12, piece]}),
    lambda out, piece: out.data("mark", piece),
    lambda out, piece: out.usage(len(piece), 2),
]
PIECES = ("a", "two\nlines", "é", "😀 ", '"quoted" \\ "generation.completed"', "\0")


class ModelCodeError(Exception):
    """What a model's code raises now and then."""


def seeded_random(seed: int) -> Random:
    """Return chance that can be had again."""
    return Random(seed)  # noqa: S311 - no secret is made of it


def write_random_chat(spool: Spool, random: Random) -> list[str]:
    """Write some generations that interleave; return their ids. At most four of them are active at a time."""
    return [generation_id for _ in range(random.randint(1, 3)) for generation_id in _write_together(spool, random)]


def write_something(out: Producer, random: Random) -> None:
    """Say one thing."""
    random.choice(WRITES)(out, random.choice(PIECES))


def _write_together(spool: Spool, random: Random) -> list[str]:
    ids = [spool.enqueue(CHAT, "x", on_active="allow").generation_id for _ in range(random.randint(1, 4))]
    with suppress(ModelCodeError), ExitStack() as blocks:
        outs = [
            blocks.enter_context(spool.produce(CHAT, generation_id)) for generation_id in ids if random.random() < 0.8
        ]
        for _ in range(random.randint(0, 12)):
            if outs:
                with suppress(Interrupted):
                    write_something(random.choice(outs), random)
            if random.random() < 0.1:
                spool.stop(CHAT, random.choice(ids), reason=random.choice(PIECES))
            if random.random() < 0.05:
                raise ModelCodeError
    spool.stop(CHAT)
    return ids


def stored_entries(client: Redis) -> list[StoredEntry]:
    """Return the whole log as it stands in Redis, read by no code of the library."""
    entries: Any = client.xrange(KEYS.log)
    return [(int(entry_id.partition(b"-")[0]), fields[b"e"]) for entry_id, fields in entries]
