"""Figure 1: the cost of appending one event, compared with the minimum for a durable log, XADD and EXPIRE."""

from __future__ import annotations

import time

from bench.harness.environment import TTL_MS, Environment
from bench.harness.report import Figure, at_most, measure_medians

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
"""The Redis commands of append.lua without any logic: the minimum for a script that does all of it."""


def measure(environment: Environment) -> list[Figure]:
    """Measure both in turn, and how much of each is the server's own time."""
    sha, commands_sha = (environment.client.script_load(text) for text in (BARE, COMMANDS_ALONE))
    append_in_server: list[float] = []
    bare_in_server: list[float] = []

    def time_append() -> float:
        chat = environment.new_claimed_chat()
        event = chat.event
        environment.client.config_resetstat()
        began = time.perf_counter()
        for _ in range(CALLS):
            environment.store.send(chat.next_append((event,)))
        took = _micros_per_call(began)
        append_in_server.append(_script_time(environment))
        return took

    def time_bare() -> float:
        chat = environment.new_queued_chat()
        event, key = chat.event, f"bare:{chat.keys.log}"
        environment.client.config_resetstat()
        began = time.perf_counter()
        for _ in range(CALLS):
            environment.client.evalsha(sha, 1, key, event, TTL_MS // 1000)
        took = _micros_per_call(began)
        bare_in_server.append(_script_time(environment))
        return took

    def time_commands_alone() -> float:
        chat = environment.new_queued_chat()
        call = chat.next_append((chat.event,))
        began = time.perf_counter()
        for _ in range(CALLS):
            environment.client.evalsha(commands_sha, len(call.keys), *call.keys, *call.args)
        return _micros_per_call(began)

    append_took, bare_took, commands_took = measure_medians(RUNS, time_append, time_bare, time_commands_alone)
    inside = f"{sorted(append_in_server)[RUNS // 2]:.1f} and {sorted(bare_in_server)[RUNS // 2]:.1f} µs"
    return [
        at_most(
            "1 event a call: append / bare Lua XADD + EXPIRE",
            append_took / bare_took,
            LIMIT,
            " x",
            f"{append_took:.0f} / {bare_took:.0f} µs a call",
        ),
        Figure("  the same Redis commands with no logic between them", f"{commands_took / bare_took:.2f} x"),
        Figure("  of that, inside the server's script engine", inside),
    ]


def _micros_per_call(began: float) -> float:
    return (time.perf_counter() - began) / CALLS * 1e6


def _script_time(environment: Environment) -> float:
    return float(environment.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
