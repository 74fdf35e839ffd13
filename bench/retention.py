"""How long retention takes for many chats whose logs are too long, and the longest script meanwhile: some minutes.

`python -m bench.retention`, not a part of `make bench`; exit code 1 if a script took longer than it may. The chats are
copies of one.
"""

from __future__ import annotations

import math
import sys
import time
from functools import partial
from typing import Any, Final

from bench.harness.environment import Environment
from bench.harness.report import Figure, at_most
from bench.harness.run import Measurements, run
from chunkspool import Spool
from chunkspool.effects import Effect, SendAll, drive
from chunkspool.operations.retention import retain_due
from chunkspool.settings import Settings
from chunkspool.store.client import Store
from chunkspool.store.commands import ScriptCall, Transaction
from chunkspool.store.keys import RETENTION_DUE, ChatKeys
from chunkspool.store.log_size import LogSize
from chunkspool.store.totals import count_sizes

CHATS: Final = 100_000
ANSWERS, PIECES, EVENTS = 3, 10, 13
"""Of each chat; `EVENTS` is what an answer of so many pieces has."""
MAX_MS: Final = 5.0
_AT_ONCE: Final = 25
_TTL_MS: Final = 86_400_000


def measure(environment: Environment) -> list[Figure]:
    """Let the command go over all chats, first without effect; then the sweep, by its list."""
    client: Any = environment.client
    client.flushall()
    settings = Settings.checked({"redis_url": environment.url, "keep_messages": False})
    with Spool.from_settings(settings) as spool:
        _make_chats(client, spool)
        spool.set_policy(keep_events=(ANSWERS - 1) * EVENTS)
        figures = []
        for what, dry_run in (("`chunkspool retention --dry-run`", True), ("`chunkspool retention`", False)):
            seconds, slowest, dropped = _watch(client, partial(_go_over, spool, dry_run=dry_run))
            figures += _tell(what, seconds, slowest, dropped)
        spool.set_policy(keep_events=EVENTS)
        names = [f"default chat-{n}" for n in range(CHATS)]
        for start in range(0, CHATS, 1000):
            client.zadd(RETENTION_DUE, dict.fromkeys(names[start : start + 1000], 1))
        seconds, slowest, dropped = _watch(client, partial(_sweep, client, spool.settings))
        return [*figures, *_tell("the sweep, by the list of what is due", seconds, slowest, dropped)]


def _make_chats(client: Any, spool: Spool) -> None:
    for _ in range(ANSWERS):
        made = spool.enqueue("model", "x")
        with spool.produce("model", made.generation_id) as out:
            for n in range(PIECES):
                out.data("n", f"about as much as a few tokens, {n}")
    model = ChatKeys("default", "model")
    parts = [(part, client.dump(getattr(model, part))) for part in ("seq", "log", "head", "gens")]
    now, size = round(time.time() * 1000), int(client.memory_usage(model.log))
    store = Store(client)
    for start in range(0, CHATS, _AT_ONCE):
        chats = [f"chat-{n}" for n in range(start, start + _AT_ONCE)]
        with client.pipeline(transaction=False) as pipe:
            for chat in chats:
                for part, dumped in parts:
                    pipe.restore(getattr(ChatKeys("default", chat), part), _TTL_MS, dumped)
            pipe.execute()
        store.send(count_sizes("default", [(chat, LogSize(size, now, _TTL_MS)) for chat in chats], owner_hash="/"))
    spool.erase("model")


def _go_over(spool: Spool, *, dry_run: bool) -> int:
    dropped, after = 0, None
    while True:
        step = spool.retain(after=after, dry_run=dry_run)
        dropped += step.events
        after = step.after
        if after is None:
            return dropped


def _sweep(client: Any, settings: Settings) -> int:
    store = Store(client)

    def perform(effect: Effect) -> object:
        if isinstance(effect, SendAll):
            return store.send_all(effect.transactions, at_once=False)
        if not isinstance(effect, ScriptCall | Transaction):
            raise TypeError(f"a sweep of logs needs no {type(effect).__name__}")
        return store.send(effect)

    drive(retain_due(settings, 0, math.inf), perform)
    return CHATS * EVENTS


def _watch(client: Any, work: Any) -> tuple[float, float, int]:
    """Return the seconds, the ms of the longest script, and what `work` returned."""
    client.config_set("slowlog-log-slower-than", 200)
    client.config_set("slowlog-max-len", 20_000)
    client.slowlog_reset()
    began = time.perf_counter()
    dropped = int(work())
    seconds = time.perf_counter() - began
    calls = [entry["duration"] for entry in client.slowlog_get(20_000) if entry["command"].startswith(b"EVALSHA")]
    return seconds, max(calls, default=200) / 1000, dropped


def _tell(what: str, seconds: float, slowest: float, dropped: int) -> list[Figure]:
    told = f"{CHATS / seconds:,.0f} chats a second, {dropped:,} events"
    return [
        Figure(f"{what}: {CHATS:,} chats", f"{seconds:.1f} s  ({told})"),
        at_most("  longest script meanwhile", slowest, MAX_MS, " ms"),
    ]


MEASUREMENTS: Measurements = {"retention": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
