"""A model server that sends tokens at a steady rate; a token is the time it was sent, so any process can tell its age.

`python -m bench.processes.paced_model PORT`. A request may hold `paced`: {`tokens`, `rate` (a second), `text`: what is
sent instead of the time}. `GET /report` tells what was sent; `GET /end` lets all answers end at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import uvloop

from bench.harness.environment import Environment
from bench.processes.reader_process import TOKEN_SIZE
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

MODEL = "paced"
_HEAD = "HTTP/1.1 {}\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n"
_ROOT = Path(__file__).parents[2]
_READY_SECONDS = 30.0


@dataclass(slots=True)
class ModelReport:
    """What the server has done so far.

    `late`: the longest that a token was sent after its time, in seconds, since the last report; `sent_at`: when the
    tokens of the newest answer were sent, in ns.
    """

    running: int = 0
    tokens: int = 0
    late: float = 0.0
    sent_at: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class PacedModel:
    """A running server."""

    port: int

    @property
    def base_url(self) -> str:
        """The provider's OPENAI_BASE_URL."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def fetch_report(self) -> ModelReport:
        """Return what it has sent so far."""
        return ModelReport(**self._get("report"))

    def end_answers(self) -> None:
        """Let all answers end."""
        self._get("end")

    def wait_until_running(self, answers: int, patience: float) -> None:
        """Wait until this many answers are being sent."""
        until = time.monotonic() + patience
        while (running := self.fetch_report().running) != answers:
            if time.monotonic() > until:
                raise RuntimeError(f"{running} of {answers} answers run after {patience:g} seconds")
            time.sleep(0.2)

    def _get(self, path: str) -> dict[str, Any]:
        with urlopen(f"http://{LOOPBACK}:{self.port}/{path}", timeout=_READY_SECONDS) as reply:
            found: dict[str, Any] = json.loads(reply.read())
            return found


@contextmanager
def start_paced_model(environment: Environment) -> Iterator[PacedModel]:
    """Start the server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "bench.processes.paced_model", str(port)]
    process = Process.start("model", command, environment.folder / "logs", cwd=_ROOT)
    try:
        process.wait_until(lambda: is_taken(port), _READY_SECONDS)
        yield PacedModel(port)
    finally:
        process.terminate()


class _Server:
    def __init__(self) -> None:
        self.report = ModelReport()
        self.answers: set[_Answer] = set()

    def take_report(self) -> bytes:
        self.report.running = len(self.answers)
        report = json.dumps(asdict(self.report)).encode()
        self.report.late = 0.0
        return report


class _Answer:
    """One answer under way. A timer of the loop sends each token; a task for each would cost several times as much."""

    def __init__(self, server: _Server, transport: asyncio.Transport, paced: dict[str, Any]) -> None:
        self._server = server
        self._transport = transport
        self._left = int(paced.get("tokens", 1))
        self._pause = 1 / float(paced.get("rate", 1000))
        self._text = paced.get("text")
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        server.report.sent_at = self._sent_at = list[int]()
        server.answers.add(self)
        transport.write(_HEAD.format("200 OK", "text/event-stream").encode())
        self._send()

    def end(self, *, heard: bool = True) -> None:
        """Send the rest, unless nobody hears it."""
        self._server.answers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if heard:
            _write(self._transport, _event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n")
            self._transport.write(b"0\r\n\r\n")

    def _send(self) -> None:
        if not self._left:
            self.end()
            return
        now = time.monotonic_ns()
        report = self._server.report
        report.late = max(report.late, self._loop.time() - self._due)
        report.tokens += 1
        self._sent_at.append(now)
        _write(self._transport, _event({"delta": {"content": self._text or f"{now:0{TOKEN_SIZE}d}"}}))
        self._left -= 1
        self._due += self._pause
        self._timer = self._loop.call_at(self._due, self._send)


def _event(choice: dict[str, Any]) -> bytes:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: %b\n\n" % json.dumps(chunk | {"choices": [{"index": 0, **choice}]}).encode()


def _write(transport: asyncio.Transport, data: bytes) -> None:
    transport.write(b"%x\r\n%b\r\n" % (len(data), data))


class _Connection(asyncio.Protocol):
    """One connection, kept open for one request after the other, as model servers do."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._received = b""
        self._answer: _Answer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        """End the answer, which nobody hears any more."""
        if self._answer is not None:
            self._answer.end(heard=False)

    def data_received(self, data: bytes) -> None:
        """Answer the request once it is whole."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
        if not found or len(body) < length:
            return
        self._received = body[length:]
        if head.startswith(b"POST"):
            self._answer = _Answer(self._server, self._transport, json.loads(body[:length]).get("paced", {}))
            return
        if head.startswith(b"GET /end"):
            for answer in tuple(self._server.answers):
                answer.end()
        self._transport.write(_HEAD.format("200 OK", "application/json").encode())
        _write(self._transport, self._server.take_report())
        self._transport.write(b"0\r\n\r\n")


async def _serve(port: int) -> None:
    server = _Server()
    listening = await asyncio.get_running_loop().create_server(
        lambda: _Connection(server), LOOPBACK, port, backlog=2048
    )
    await listening.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
