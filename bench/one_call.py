"""Figure 1: what an append of one event costs beside the least that a durable log needs, XADD and EXPIRE."""

from __future__ import annotations

import time

from bench.ground import TTL_MS, Ground
from bench.report import Line, at_most, medians

RUNS, CALLS = 9, 2_000
LIMIT = 1.15
BARE = "redis.call('XADD', KEYS[1], '*', 'e', ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[2]) return 1"


def measured(ground: Ground) -> list[Line]:
    """Measure both in turn, and how much of it is the server's own time."""
    sha = ground.client.script_load(BARE)
    ours_in_server: list[float] = []
    bare_in_server: list[float] = []

    def ours() -> float:
        chat = ground.claimed()
        event = chat.event
        ground.client.config_resetstat()
        began = time.perf_counter()
        for _ in range(CALLS):
            ground.store.send(chat.batch((event,)))
        took = _micros(began)
        ours_in_server.append(_script_time(ground))
        return took

    def bare() -> float:
        chat = ground.queued()
        event, key = chat.event, f"bare:{chat.keys.log}"
        ground.client.config_resetstat()
        began = time.perf_counter()
        for _ in range(CALLS):
            ground.client.evalsha(sha, 1, key, event, TTL_MS // 1000)
        took = _micros(began)
        bare_in_server.append(_script_time(ground))
        return took

    ours_took, bare_took = medians(RUNS, ours, bare)
    inside = f"{sorted(ours_in_server)[RUNS // 2]:.1f} and {sorted(bare_in_server)[RUNS // 2]:.1f} µs"
    return [
        at_most(
            "1 event a call: append / bare Lua XADD + EXPIRE",
            ours_took / bare_took,
            LIMIT,
            " x",
            f"{ours_took:.0f} / {bare_took:.0f} µs a call",
        ),
        Line("  of that, inside the server's script engine", inside),
    ]


def _micros(began: float) -> float:
    return (time.perf_counter() - began) / CALLS * 1e6


def _script_time(ground: Ground) -> float:
    return float(ground.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
