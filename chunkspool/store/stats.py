"""Reads across chats: how much a queue has to do, what the tenants keep, and what single chats take in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.states import PRIORITIES, Priority
from chunkspool.store.commands import Transaction, as_text
from chunkspool.store.index import as_ms, scored
from chunkspool.store.keys import PINS_DUE, RETENTION_DUE, TENANT_BYTES, TENANT_CHATS, ChatKeys, QueueKeys, TenantKeys

TENANTS_MAX: Final = 20
"""Tenants that are told apart."""
ALL_TENANTS: Final = "/"
"""Stands for all of them; no tenant has this id."""
GENERATIONS_MEASURED: Final = 2
"""Of a chat, the newest: the others are taken to be like them."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the index says at one moment, `now` in Unix ms; `oldest`: when the first that is queued was enqueued.

    `log_bytes`: what the logs of the tenants take that keep the most; `all_bytes`: what all logs take.
    """

    now: int
    queued: Mapping[Priority, int]
    oldest: Mapping[Priority, int]
    sent: int
    running: int
    log_bytes: Mapping[str, int]
    all_bytes: int
    chats: int
    tenants: int
    pinned: int = 0
    to_shorten: int = 0


def count(queue: QueueKeys) -> Transaction[Counts]:
    """Read it. Each command takes the time of one, however much there is."""
    lines = tuple(map(queue.queued, PRIORITIES))
    commands = (
        ("TIME",),
        ("ZCARD", queue.sent),
        ("ZCARD", queue.running),
        ("ZREVRANGE", TENANT_BYTES, 0, TENANTS_MAX, "WITHSCORES"),
        ("ZREVRANGE", TENANT_CHATS, 0, 0, "WITHSCORES"),
        ("ZCARD", TENANT_CHATS),
        ("ZCARD", PINS_DUE),
        ("ZCARD", RETENTION_DUE),
        *(("ZCARD", line) for line in lines),
        *(("ZRANGE", line, 0, 0, "WITHSCORES") for line in lines),
    )

    def parse(replies: Sequence[Any]) -> Counts:
        time, sent, running, bytes_, chats, tenants, pinned, to_shorten, *of_lines = replies
        log_bytes = dict(scored(bytes_))
        firsts = zip(PRIORITIES, of_lines[len(lines) :], strict=True)
        return Counts(
            now=as_ms(time),
            queued={priority: int(number) for priority, number in zip(PRIORITIES, of_lines, strict=False)},
            oldest={priority: ms for priority, first in firsts for _, ms in scored(first)},
            sent=int(sent),
            running=int(running),
            all_bytes=log_bytes.pop(ALL_TENANTS, 0),
            log_bytes=dict(list(log_bytes.items())[:TENANTS_MAX]),
            chats=sum(number for _, number in scored(chats)),
            tenants=max(int(tenants) - 1, 0),
            pinned=int(pinned),
            to_shorten=int(to_shorten),
        )

    return Transaction(commands, parse)


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What the Redis server says of its memory, in bytes; a `maximum` of 0 is no limit."""

    used: int
    maximum: int


def server_memory() -> Transaction[ServerMemory]:
    """Ask the server. Its user may lack the right, and some servers do not answer this."""

    def parse(replies: Sequence[Any]) -> ServerMemory:
        found = dict(line.partition(":")[::2] for line in as_text(replies[0]).splitlines())
        return ServerMemory(int(found["used_memory"]), int(found["maxmemory"]))

    return Transaction((("INFO", "memory"),), parse)


def count_chats(tenant: str) -> Transaction[int]:
    """Read how many chats of a tenant are counted."""
    return Transaction((("ZCARD", TenantKeys(tenant).sizes_until),), lambda replies: int(replies[0]))


def chats_at(tenant: str, ranks: Sequence[int]) -> Transaction[list[str]]:
    """Read the ids of some chats of a tenant, by their places in the order in which their logs expire."""
    key = TenantKeys(tenant).sizes_until
    commands = tuple(("ZRANGE", key, rank, rank) for rank in ranks)
    return Transaction(commands, lambda replies: [as_text(one) for reply in replies for one in reply])


@dataclass(frozen=True, slots=True)
class ChatMemory:
    """What a chat takes: its log, its other keys, and its generations, of which the newest are still to be measured."""

    keys: ChatKeys
    log: int
    others: int
    generations: int
    newest: tuple[str, ...]


def measure_chat(keys: ChatKeys) -> Transaction[ChatMemory]:
    """Ask Redis."""
    parts = (keys.log, keys.seq, keys.head, keys.gens, keys.readers, keys.digest, keys.title)
    commands = (
        ("ZCARD", keys.gens),
        ("ZREVRANGE", keys.gens, 0, GENERATIONS_MEASURED - 1),
        *(("MEMORY", "USAGE", part) for part in parts),
    )

    def parse(replies: Sequence[Any]) -> ChatMemory:
        number, newest, log, *others = replies
        return ChatMemory(keys, int(log or 0), sum(int(one or 0) for one in others), int(number), _ids(newest))

    return Transaction(commands, parse)


def _ids(found: Sequence[Any]) -> tuple[str, ...]:
    return tuple(map(as_text, found))


def measure_generations(chat: ChatMemory) -> Transaction[int]:
    """Return about what the generations of a chat take, by the newest of them."""
    commands = tuple(("MEMORY", "USAGE", chat.keys.gen(one)) for one in chat.newest) or (("ZCARD", chat.keys.gens),)

    def parse(replies: Sequence[Any]) -> int:
        return sum(int(one or 0) for one in replies) * chat.generations // len(chat.newest) if chat.newest else 0

    return Transaction(commands, parse)
