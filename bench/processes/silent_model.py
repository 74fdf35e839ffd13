"""A model server that sends one word and then nothing, and records when clients hang up."""

from __future__ import annotations

import json
import socketserver
import threading
import time
from types import TracebackType
from typing import Self

from chunkspool.demo.ports import LOOPBACK

MODEL = "silent"
PATIENCE = 30.0
_CHUNK = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "word"}}]}
_ANSWER = (
    f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: {json.dumps(_CHUNK)}\n\n"
).encode()


class SilentModel:
    """Answers any number of requests at once. Use it as a context manager."""

    def __init__(self) -> None:
        """Choose a port; nothing listens before the block is entered."""
        self._left: dict[str, float] = {}
        self._changed = threading.Condition()
        self._server = _Server((LOOPBACK, 0), _Connection)
        self._server.model = self

    @property
    def base_url(self) -> str:
        """The OpenAI client's base_url."""
        return f"http://{LOOPBACK}:{self._server.server_address[1]}/v1"

    def wait_for_disconnect(self, prompt: str) -> float:
        """Wait until this prompt's client hangs up; return when it did, by `time.perf_counter()`."""
        with self._changed:
            if not self._changed.wait_for(lambda: prompt in self._left, PATIENCE):
                raise TimeoutError(f"the model call of {prompt!r} was not closed within {PATIENCE:g} seconds")
            return self._left[prompt]

    def note_disconnect(self, prompt: str, at: float) -> None:
        """Record that this prompt's client has hung up."""
        with self._changed:
            self._left[prompt] = at
            self._changed.notify_all()

    def __enter__(self) -> Self:
        """Start listening."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, _kind: object, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    model: SilentModel


class _Connection(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        size = 0
        while line := self.rfile.readline().strip().lower():
            if line.startswith(b"content-length:"):
                size = int(line.partition(b":")[2])
        prompt = str(json.loads(self.rfile.read(size))["messages"][-1]["content"])
        self.wfile.write(_ANSWER)
        try:
            self.rfile.read(1)
        except ConnectionResetError:
            pass  # the client reset the connection
        finally:
            self.server.model.note_disconnect(prompt, time.perf_counter())
