"""Figure 1: what an append of one event costs beside the least that a durable log needs, XADD and EXPIRE."""

from __future__ import annotations

import time

from bench.harness.environment import TTL_MS, Ground
from bench.harness.report import Line, at_most, medians

RUNS, CALLS = 9, 2_000
LIMIT = 1.15
BARE = "redis.call('XADD', KEYS[1], '*', 'e', ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[2]) return 1"
COMMANDS_ALONE = """
local call = redis.call
call('TIME')
call('HMGET', KEYS[6], 'status', 'attempt', 'index', 'stop', 'ttl', 'seq', 'touched')
local seq = call('INCRBY', KEYS[1], 1)
call('XADD', KEYS[2], seq, 't', '1764000000000', 'e', ARGV[6])
call('PUBLISH', KEYS[5], ARGV[6])
call('HSET', KEYS[6], 'index', seq, 'seq', seq, 'lease', seq)
return {'ok', seq, seq, 0, 'running'}
"""
"""The Redis commands of append.lua with nothing between them: what any script that does all of it must cost."""


def measured(ground: Ground) -> list[Line]:
    """Measure both in turn, and how much of it is the server's own time."""
    sha, commands_sha = (ground.client.script_load(text) for text in (BARE, COMMANDS_ALONE))
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

    def commands_alone() -> float:
        chat = ground.queued()
        call = chat.batch((chat.event,))
        began = time.perf_counter()
        for _ in range(CALLS):
            ground.client.evalsha(commands_sha, len(call.keys), *call.keys, *call.args)
        return _micros(began)

    ours_took, bare_took, commands_took = medians(RUNS, ours, bare, commands_alone)
    inside = f"{sorted(ours_in_server)[RUNS // 2]:.1f} and {sorted(bare_in_server)[RUNS // 2]:.1f} µs"
    return [
        at_most(
            "1 event a call: append / bare Lua XADD + EXPIRE",
            ours_took / bare_took,
            LIMIT,
            " x",
            f"{ours_took:.0f} / {bare_took:.0f} µs a call",
        ),
        Line("  the same Redis commands with no logic between them", f"{commands_took / bare_took:.2f} x"),
        Line("  of that, inside the server's script engine", inside),
    ]


def _micros(began: float) -> float:
    return (time.perf_counter() - began) / CALLS * 1e6


def _script_time(ground: Ground) -> float:
    return float(ground.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
