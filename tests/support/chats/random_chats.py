"""Write random chats like those of people and models: several generations at once, all kinds of events and endings."""

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
"""Two hundred seeds, in ranges that can run in parallel."""

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
    """An error that a model's code raises now and then."""


def seeded_random(seed: int) -> Random:
    """Return a repeatable random generator."""
    return Random(seed)  # noqa: S311 - repeatable, not a secret


def write_random_chat(spool: Spool, random: Random) -> list[str]:
    """Write some interleaved generations, at most four active at a time; return their ids."""
    return [generation_id for _ in range(random.randint(1, 3)) for generation_id in _write_together(spool, random)]


def write_something(out: Producer, random: Random) -> None:
    """Write one random event."""
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


def read_stored_entries(client: Redis) -> list[StoredEntry]:
    """Return the whole log as it is stored in Redis, without the library's reading code."""
    entries: Any = client.xrange(KEYS.log)
    return [(int(entry_id.partition(b"-")[0]), fields[b"e"]) for entry_id, fields in entries]
