"""`make bench`, latency where little is busy: one stream and a hundred, an event's way from producer to reader, SO.

`python -m bench.one_stream`; exit code 1 if a figure misses its target.
"""

from __future__ import annotations

import itertools
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.harness.environment import TEXT, Environment, ReadyChat
from bench.harness.report import Figure, at_least, at_most
from bench.harness.run import Measurements, run
from bench.harness.web_server import run_web_server, send_request
from bench.harness.worker import start_worker
from bench.processes.paced_model import MODEL, PacedModel, start_paced_model
from bench.processes.reader_process import ReaderProcess, ReaderReport
from chunkspool import Settings, Spool
from chunkspool.demo.process import Process

ROOT = Path(__file__).parent.parent
SECONDS, SETTLED = 5.0, 1.0
PATIENCE = 60.0
MOST_P50, FORMER_P99 = 1.5, 5.0
FLOOD_EVENTS, FORMER_FLOOD = 60_000, 13_000
CHUNKS, CHUNK, CHUNK_RATE = 300, "abcd", 100
"""What Vercel's workflow project streams to measure SO, CRTT and CDV (its pull requests 3077 and 3393)."""
RUNS = 5


def measure_streams(environment: Environment) -> list[Figure]:
    """Measure the age of each token when its reader has it."""
    one = _follow_producers(environment, streams=1, rate=100)
    hundred = _follow_producers(environment, streams=100, rate=40)
    return [
        at_most("one stream, 100 tokens/s: `out.text` → reader, p50", one.p50, MOST_P50, " ms", _format(one)),
        at_most("100 streams, 40 tokens/s each, p99", hundred.p99, FORMER_P99, " ms", _format(hundred)),
    ]


def _follow_producers(environment: Environment, *, streams: int, rate: int) -> ReaderReport:
    chats = [environment.new_queued_chat() for _ in range(streams)]
    with ReaderProcess(environment.url, chats, own_connections=False) as readers:
        readers.start_readers()
        while len(environment.client.pubsub_channels()) < streams:
            time.sleep(0.05)
        names = [f"{chat.keys.chat_id}/{chat.generation_id}" for chat in chats]
        command = [sys.executable, "-m", "bench.processes.paced_writer", environment.url, str(rate)]
        writer = Process.start(
            "writer", [*command, str(SETTLED + SECONDS), *names], environment.folder / "logs", cwd=ROOT
        )
        try:
            _wait_for_first_token(environment, chats[-1])
            time.sleep(SETTLED)
            begun = readers.collect_report().tokens
            if writer.popen.wait(PATIENCE):
                raise RuntimeError(writer.read_log_tail())
            _wait_for_endings(environment, chats)
            report = readers.collect_report()
        finally:
            writer.terminate()
    received, said = begun + report.tokens, streams * int(rate * (SETTLED + SECONDS))
    if received != said:
        raise RuntimeError(f"the readers received {received} tokens, not {said}")
    return report


def _wait_for_first_token(environment: Environment, chat: ReadyChat) -> None:
    with (
        Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool,
        spool.subscribe(chat.keys.chat_id) as entries,
    ):
        next(entry for entry in entries if entry.type == "text.delta")


def _wait_for_endings(environment: Environment, chats: list[ReadyChat]) -> None:
    """Wait for the last frames on their way to the readers: the endings, which the writer has seen acknowledged."""
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
        for chat in chats:
            with spool.subscribe(chat.keys.chat_id) as entries:
                for _ in entries:
                    pass


def _format(report: ReaderReport) -> str:
    events, size = report.events / report.tokens, report.size / report.tokens
    return f"p50 {report.p50:.2f}, p99 {report.p99:.2f} ms; {events:.2f} events and {size:.0f} bytes a token"


def measure_flood(environment: Environment) -> list[Figure]:
    """Measure how many whole events a second one generation can say, until all are in its log."""
    rates = []
    for _ in range(RUNS):
        chat = environment.new_queued_chat()
        with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
            began = time.perf_counter()
            with spool.produce(chat.keys.chat_id, chat.generation_id) as out:
                for _ in range(FLOOD_EVENTS):
                    out.data("text", TEXT)
            rates.append(FLOOD_EVENTS / (time.perf_counter() - began))
        environment.client.delete(chat.keys.log)
    rate = statistics.median(rates)
    return [at_least("`out.data`, one generation without a pause", rate, FORMER_FLOOD, " events/s")]


def measure_overhead(environment: Environment) -> list[Figure]:
    """Measure SO, CRTT and CDV from the model's socket through worker, Redis and an event stream to a client."""
    with start_paced_model(environment) as model, run_web_server(environment) as (port, _):
        settings = {"model": MODEL, "openai_base_url": model.base_url}
        with start_worker(environment, "threads", 4, settings):
            runs = [_stream_chunks(environment, model, port) for _ in range(RUNS)]
    overheads = [so for so, _, _ in runs]
    delays = sorted(itertools.chain.from_iterable(each for _, each, _ in runs))
    variations = [longest for _, _, longest in runs]
    return [
        Figure(
            f"SO: {CHUNKS} chunks of {len(CHUNK)} bytes at {CHUNK_RATE}/s, model → worker → Redis → SSE",
            f"{statistics.median(overheads):.1f} ms  (longest of {RUNS}: {max(overheads):.1f})",
        ),
        Figure("  CRTT, p50", f"{delays[len(delays) // 2]:.2f} ms  (p99 {delays[len(delays) * 99 // 100]:.2f})"),
        Figure(
            "  CDV, longest of a run",
            f"{statistics.median(variations):.2f} ms  (longest of {RUNS}: {max(variations):.2f})",
        ),
    ]


def _stream_chunks(environment: Environment, model: PacedModel, port: int) -> tuple[float, list[float], float]:
    """Return SO, the delay of each chunk, and the longest delay variation, in ms."""
    name = environment.new_name()
    with Spool.from_settings(Settings.checked({"redis_url": environment.url})) as spool:
        paced = {"tokens": CHUNKS, "rate": CHUNK_RATE, "text": CHUNK}
        spool.enqueue(name, "Tell me a story.", params={"paced": paced})
        with send_request(port, f"{name}/events?follow=true") as stream:
            arrived = list(itertools.islice(_arrivals(stream), CHUNKS))
    sent = model.fetch_report().sent_at
    if len(arrived) != CHUNKS or len(sent) != CHUNKS:
        raise RuntimeError(f"{len(sent)} chunks were sent, {len(arrived)} arrived")
    so = (arrived[-1] - sent[0]) / 1e6 - CHUNKS / CHUNK_RATE * 1000
    delays = [(after - before) / 1e6 for before, after in zip(sent, arrived, strict=True)]
    return so, delays, max(after - before for before, after in itertools.pairwise(delays))


def _arrivals(stream: socket.socket) -> Iterator[int]:
    """Yield for each chunk when it was received, in ns. An event may hold several chunks."""
    unread = b""
    while received := stream.recv(65_536):
        now = time.monotonic_ns()
        *events, unread = (unread + received).split(b"\n\n")
        for event in events:
            if b'"type":"text.delta"' in event:
                yield from itertools.repeat(now, event.count(CHUNK.encode()))


MEASUREMENTS: Measurements = {
    "streams": measure_streams,
    "flood": measure_flood,
    "overhead": measure_overhead,
}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
