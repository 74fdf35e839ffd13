"""Figure 2: events per second of the flusher's batches, compared with redis-benchmark's plain XADD, pipelined."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from bench.harness.environment import TEXT, Environment, ReadyChat
from bench.harness.report import Figure, at_least, measure_medians
from chunkspool import Spool
from chunkspool.events import DataEvent, encode
from chunkspool.producing.buffer import BATCH_EVENTS
from chunkspool.producing.flusher import Flusher
from chunkspool.producing.outbox import Outbox
from chunkspool.provider import ModelRequest
from chunkspool.request import Claim
from chunkspool.settings import Settings
from chunkspool.store.client import connect

RUNS, OUTBOXES, PIPELINED = 5, 64, 64
LIMIT = 0.4
PER_OUTBOX = 4 * BATCH_EVENTS
"""Events that each outbox writes in one run; a multiple of both batch sizes."""
PLAIN_EVENTS = 300_000
PRODUCED_PER_OUTBOX = 256
CSV_FIGURES = 7
"""Columns of redis-benchmark's CSV after the command; the first of them is requests per second."""


def measure(environment: Environment) -> list[Figure]:
    """Measure each layer, alternating with the plain XADD."""
    settings = Settings.checked({"redis_url": environment.url})
    by, plain = _choose_plain_xadd(environment)
    base, small, large, flushed, produced = measure_medians(
        RUNS,
        plain,
        partial(_append_in_pipelines, environment, 64),
        partial(_append_in_pipelines, environment, BATCH_EVENTS),
        partial(_flush_full_buffers, environment, settings),
        partial(_write_with_producers, environment, settings),
    )
    return [
        at_least(
            f"flusher batches of {BATCH_EVENTS}, {OUTBOXES} outboxes: append script / plain XADD",
            large / base,
            LIMIT,
            " x",
            f"{large:,.0f} / {base:,.0f} events/s",
        ),
        Figure(f"  plain XADD: {by}, same entry", f"{base:,.0f} events/s"),
        Figure("  batches of 64", f"{small:,.0f} events/s ({small / base:.2f} x)"),
        Figure("  the Flusher's thread emptying full buffers", f"{flushed:,.0f} events/s ({flushed / base:.2f} x)"),
        Figure(
            "  out.data(…) in Python, until it is in the log", f"{produced:,.0f} events/s ({produced / base:.2f} x)"
        ),
    ]


def _choose_plain_xadd(environment: Environment) -> tuple[str, Callable[[], float]]:
    program = shutil.which("redis-benchmark")
    if program is None:
        return f"redis-py, pipelines of {PIPELINED} (no redis-benchmark here)", partial(_plain_by_client, environment)
    return f"redis-benchmark -P {PIPELINED}", partial(_plain_by_program, environment, program)


def _plain_by_program(environment: Environment, program: str) -> float:
    key = environment.new_name()
    options = ["-p", str(environment.port), "-P", str(PIPELINED), "-n", str(PLAIN_EVENTS), "--csv"]
    command = [program, *options, "XADD", key, "*", "e", _event_of(environment.new_queued_chat()).decode()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own command line
    environment.client.unlink(key)
    # From the right: the first column holds the command's own quotes and commas, unescaped.
    return float(done.stdout.splitlines()[-1].rsplit(",", CSV_FIGURES)[1].strip('"'))


def _plain_by_client(environment: Environment) -> float:
    key, event = environment.new_name(), _event_of(environment.new_queued_chat())
    began = time.perf_counter()
    for _ in range(PLAIN_EVENTS // PIPELINED):
        pipeline = environment.client.pipeline(transaction=False)
        for _ in range(PIPELINED):
            pipeline.execute_command("XADD", key, "*", "e", event)  # type: ignore[no-untyped-call]
        pipeline.execute()
    took = time.perf_counter() - began
    environment.client.unlink(key)
    return PLAIN_EVENTS / took


def _append_in_pipelines(environment: Environment, size: int) -> float:
    """Send the append script like the flusher: one pipeline with a batch of every outbox; time only the sending."""
    took = 0.0
    with _new_chats(environment) as chats:
        for _ in range(PER_OUTBOX // size):
            pipeline = environment.client.pipeline(transaction=False)
            for chat in chats:
                call = chat.next_append((_event_of(chat),) * size)
                pipeline.evalsha(call.script.sha, len(call.keys), *call.keys, *call.args)
            began = time.perf_counter()
            pipeline.execute()
            took += time.perf_counter() - began
        _require_all_written(environment, chats)
    return OUTBOXES * PER_OUTBOX / took


def _flush_full_buffers(environment: Environment, settings: Settings) -> float:
    """Fill all buffers, then time the flusher emptying them."""
    with _new_chats(environment) as chats:
        flusher = Flusher(environment.client, settings.log)
        claim = Claim(1, ModelRequest(()))
        outboxes = [Outbox(chat.keys, chat.generation_id, settings.log, claim) for chat in chats]
        for outbox, chat in zip(outboxes, chats, strict=True):
            for _ in range(PER_OUTBOX - 1):
                outbox.buffer.add_event(_event_of(chat))
            outbox.buffer.end("completed", _event_of(chat))
        began = time.perf_counter()
        for outbox in outboxes:
            flusher.open(outbox)
            flusher.mark(outbox)
        for outbox in outboxes:
            outbox.ended.result(60)
        took = time.perf_counter() - began
        flusher.close()
        _require_all_written(environment, chats)
    return OUTBOXES * PER_OUTBOX / took


def _write_with_producers(environment: Environment, settings: Settings) -> float:
    """Time the whole way, from the producer's method to its events in the log."""
    with _new_chats(environment, claimed=False) as chats, ExitStack() as spools:
        client = connect(environment.url)
        spools.callback(client.close)
        spool = spools.enter_context(Spool(client, settings=settings))
        with ExitStack() as blocks:
            outs = [blocks.enter_context(spool.produce(chat.keys.chat_id, chat.generation_id)) for chat in chats]
            began = time.perf_counter()
            for _ in range(PRODUCED_PER_OUTBOX):
                for out in outs:
                    out.data("text", TEXT)
            # Measured inside the blocks: leaving them waits for one ending after another, which no worker does.
            while _count_written(environment, chats) < OUTBOXES * PRODUCED_PER_OUTBOX:
                time.sleep(0.001)
            took = time.perf_counter() - began
    return OUTBOXES * PRODUCED_PER_OUTBOX / took


def _event_of(chat: ReadyChat) -> bytes:
    return encode(DataEvent(generation_id=chat.generation_id, name="text", value=TEXT))


@contextmanager
def _new_chats(environment: Environment, *, claimed: bool = True) -> Iterator[list[ReadyChat]]:
    """Create a chat for each outbox; they are removed afterwards, so that every run starts with an empty server."""
    chats = [environment.new_claimed_chat() if claimed else environment.new_queued_chat() for _ in range(OUTBOXES)]
    try:
        yield chats
    finally:
        environment.client.flushall()
        environment.load_append_script()


def _require_all_written(environment: Environment, chats: list[ReadyChat]) -> None:
    """Raise unless every event reached the log; otherwise the figure would mean nothing."""
    written = _count_written(environment, chats)
    if written != OUTBOXES * PER_OUTBOX:
        raise RuntimeError(f"the logs hold {written} events, not {OUTBOXES * PER_OUTBOX}")


def _count_written(environment: Environment, chats: list[ReadyChat]) -> int:
    pipeline = environment.client.pipeline(transaction=False)
    for chat in chats:
        pipeline.xlen(chat.keys.log)
    # Each log begins with generation.queued and generation.started.
    return int(sum(pipeline.execute())) - 2 * len(chats)
