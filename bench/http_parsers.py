"""`make bench`, the price of h11, with which `chunkspool serve` reads HTTP, compared with uvicorn's httptools.

`python -m bench.http_parsers`. The figures have no target: httptools lacks the limits that make us use h11.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time
from contextlib import ExitStack
from functools import partial

import psutil

from bench.harness.environment import Environment
from bench.harness.report import Figure, measure_medians
from bench.harness.run import Measurements, run
from bench.harness.web_server import run_web_server, send_request
from bench.harness.worker import cpu_seconds
from chunkspool.demo.ports import LOOPBACK

PARSERS = ("h11", "httptools")
RUNS = 7
CONNECTIONS, REQUESTS = 16, 5_000
STREAMS, EVENTS, PAUSE = 50, 1_000, 0.002
"""With a pause between two events, in seconds: those that come at once would share a write."""
RECEIVE = 262_144
ASK = b"GET /healthz HTTP/1.1\r\nHost: %b\r\n\r\n" % LOOPBACK.encode()


def measure(environment: Environment) -> list[Figure]:
    """Alternate between two web servers on the same Redis, one of each parser."""
    with ExitStack() as servers:
        web = [servers.enter_context(run_web_server(environment, parser)) for parser in PARSERS]
        for port, _ in web:
            _count_requests(port)
        requests = measure_medians(RUNS, *(partial(_count_requests, port) for port, _ in web))
        events = measure_medians(RUNS, *(partial(_cost_of_events, environment, *one) for one in web))
    return [
        _compare(f"a small JSON route, {CONNECTIONS} connections: h11 / httptools", requests, "requests/s"),
        _compare(f"live events over {STREAMS} event streams: h11 / httptools", events, "events per CPU second"),
    ]


def _compare(what: str, medians: list[float], unit: str) -> Figure:
    ours, other = medians
    return Figure(what, f"{ours / other:.2f} x  ({ours:,.0f} / {other:,.0f} {unit})")


def _count_requests(port: int) -> float:
    """Return the requests a second of connections that each ask again as soon as they are answered."""
    with ExitStack() as connections, selectors.DefaultSelector() as waiting:
        for _ in range(CONNECTIONS):
            connection = connections.enter_context(socket.create_connection((LOOPBACK, port)))
            waiting.register(connection, selectors.EVENT_READ, connection)
            connection.sendall(ASK)
        began, answered = time.perf_counter(), 0
        while answered < REQUESTS:
            for key, _ in waiting.select():
                connection = key.data
                # A small answer arrives in one piece or two: its headers, then its body.
                reply = connection.recv(RECEIVE)
                if not reply:
                    raise RuntimeError("the web server has hung up")
                if reply.endswith(b"}"):
                    answered += 1
                    connection.sendall(ASK)
        return answered / (time.perf_counter() - began)


def _cost_of_events(environment: Environment, port: int, process: psutil.Process) -> float:
    """Return the events that the web server delivers in a second of its CPU time, each of them to all streams."""
    chat = environment.new_claimed_chat()
    last = chat.index + EVENTS
    with ExitStack() as streams, selectors.DefaultSelector() as waiting:
        for _ in range(STREAMS):
            stream = streams.enter_context(send_request(port, f"{chat.keys.chat_id}/events?follow=true"))
            waiting.register(stream, selectors.EVENT_READ, bytearray())
        _read_until(waiting, chat.index + 1)
        before = cpu_seconds(process)
        for _ in range(EVENTS):
            environment.store.send(chat.next_append((chat.event,)))
            time.sleep(PAUSE)
        _read_until(waiting, last + 1)
        return STREAMS * EVENTS / (cpu_seconds(process) - before)


def _read_until(waiting: selectors.DefaultSelector, seq: int) -> None:
    """Read all streams until each has had the event of this number."""
    mark, behind = b"\nid: %d." % seq, len(waiting.get_map())
    while behind:
        for key, _ in waiting.select():
            tail: bytearray = key.data
            had = mark in tail
            tail += key.fileobj.recv(RECEIVE)  # type: ignore[union-attr]
            behind -= mark in tail and not had
            del tail[: -4 * len(mark) - 512]


MEASUREMENTS: Measurements = {"http_parsers": measure}

if __name__ == "__main__":
    sys.exit(run(MEASUREMENTS, __doc__))
