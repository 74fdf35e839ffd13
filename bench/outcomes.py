"""`make bench`, outcomes: what it costs an answer that a group reads how it ends.

`python -m bench.outcomes`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import sys
import time
from functools import partial

from bench.harness.environment import LEASE_MS, TEXT, TTL_MS, Environment, ReadyChat
from bench.harness.report import Figure, at_most, measure_medians
from bench.harness.run import Measurements, run
from chunkspool import Settings, Spool
from chunkspool.effects import drive
from chunkspool.ids import new_generation_id
from chunkspool.operations.outcome_relay import relay
from chunkspool.settings import LogSettings
from chunkspool.store import scripts
from chunkspool.store.keys import ChatKeys

ROUNDS, ANSWERS, RUNS = 7, 100, 5
DELTAS = (200, 2_000, 20_000)
GROUP = "bench"
MOST_OF_WRITING = 0.1


def measure(environment: Environment) -> list[Figure]:
    """Answer with and without a group, taking turns; then relay answers of several lengths."""
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
        bare, told = spool.for_tenant("bare"), spool.for_tenant("told")
        with told.outcomes(GROUP), spool.outcomes(GROUP):
            pass
        _answer(environment, bare, told)
        times = measure_medians(ROUNDS, partial(_answer, environment, bare), partial(_answer, environment, told))
        cpu = measure_medians(ROUNDS, partial(_redis_cpu, environment, bare), partial(_redis_cpu, environment, told))
    return [
        Figure(
            "answers of a few words, one after the other: with a group / without",
            f"{times[1]:.2f} / {times[0]:.2f} ms each, medians of {ROUNDS} x {ANSWERS}",
        ),
        Figure("… Redis's processor for it, telling included", f"{cpu[1]:.0f} / {cpu[0]:.0f} µs"),
        *(_relay_of(environment, deltas) for deltas in DELTAS),
    ]


def _answer(environment: Environment, *spools: Spool) -> float:
    """Return the ms of an answer of a few words, whose worker does nothing else."""
    began = time.perf_counter()
    for spool in spools:
        for _ in range(ANSWERS):
            made = spool.enqueue(environment.new_name(), "Tell me a story.")
            with spool.produce(made.chat_id, made.generation_id) as out:
                out.text(TEXT)
    return (time.perf_counter() - began) * 1000 / ANSWERS / len(spools)


def _redis_cpu(environment: Environment, spool: Spool) -> float:
    """Return the µs of Redis's processor for an answer, until its outcome is told."""
    before = _used_cpu(environment)
    _answer(environment, spool)
    while environment.client.keys("*:outbox"):
        time.sleep(0.01)
    return (_used_cpu(environment) - before) * 1_000_000 / ANSWERS


def _used_cpu(environment: Environment) -> float:
    info = environment.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _relay_of(environment: Environment, deltas: int) -> Figure:
    """Compare the telling of an answer, one entry for each delta, with its writing, one call for each."""
    spent: list[tuple[float, float]] = []
    for _ in range(RUNS):
        chat = _claim(environment)
        began = time.perf_counter()
        for _ in range(deltas):
            environment.store.send(chat.next_append((chat.event,)))
        environment.end(chat)
        written = time.perf_counter()
        drive(relay(chat.keys, LogSettings()), environment.store.send)  # type: ignore[arg-type]
        spent.append((written - began, time.perf_counter() - written))
    writing, telling = min(one for one, _ in spent), min(one for _, one in spent)
    return at_most(
        f"telling an answer of {deltas:,} deltas / writing it",
        telling / writing,
        MOST_OF_WRITING,
        " x",
        f"{telling * 1000:.1f} / {writing * 1000:.0f} ms, the best of {RUNS}",
    )


def _claim(environment: Environment) -> ReadyChat:
    chat = ReadyChat(ChatKeys("default", environment.new_name()), new_generation_id())
    asked = scripts.enqueue(
        chat.keys,
        chat.generation_id,
        b'{"messages":[{"role":"user","content":"Tell me a story."}]}',
        model=None,
        active=(),
        on_active="reject",
        ttl_ms=TTL_MS,
        outcome_wanted=True,
    )
    environment.store.send(asked)
    token = chat.generation_id
    claimed = scripts.claim(chat.keys, token, token=token, lease_ms=LEASE_MS, max_attempts=3, model="a-model")
    environment.store.send(claimed)
    return chat


MEASUREMENTS: Measurements = {"outcomes": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
