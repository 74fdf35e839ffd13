"""Real model servers for tests: llama.cpp's with a tiny model, and llmock, which fails on request."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Self

import httpx
from support.models.tiny_model import write_tiny_model

from chunkspool.demo.model_server import ModelServer
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process


class LlamaServer:
    """llama.cpp's own HTTP server with a random model. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Put the model and the log into `folder`."""
        # An empty environment: OPENAI_BASE_URL would name another server.
        self._server = ModelServer(folder, model_file=write_tiny_model(folder / "tiny.gguf"), environ={})

    @property
    def base_url(self) -> str:
        """The OpenAI client's base_url."""
        return self._server.base_url

    def count_busy_slots(self) -> int:
        """Return how many answers it is generating."""
        slots = httpx.get(f"{self.base_url.removesuffix('/v1')}/slots", timeout=10).raise_for_status().json()
        return sum(slot["is_processing"] for slot in slots)

    def __enter__(self) -> Self:
        """Start the server."""
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self._server.stop()


class LlmockServer:
    """llmock, a third-party fake of OpenAI, in its own process. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Put the log into `folder`."""
        self._folder = folder
        self._port = free_port()
        self._process: Process | None = None

    @property
    def base_url(self) -> str:
        """The OpenAI client's base_url."""
        return f"http://{LOOPBACK}:{self._port}/v1"

    def queue_behaviours(self, *behaviours: dict[str, Any]) -> None:
        """Queue behaviours for the next requests, for example `{"type": "fail", "status": 429, "retry_after": 1}`."""
        self._call("/_llmock/scenario", {"behaviors": list(behaviours)})

    def requests(self) -> list[dict[str, Any]]:
        """Return every chat request since `reset`, with status, fault and whether it was completed."""
        return [one for one in self._call("/_llmock/requests")["requests"] if one["path"].endswith("/chat/completions")]

    def findings(self) -> set[str]:
        """Return what it criticises about its client, for example "retry_after_ignored"."""
        return {finding["code"] for finding in self._call("/_llmock/verdict")["findings"]}

    def reset(self) -> None:
        """Forget all requests and behaviours."""
        self._call("/_llmock/reset", {})

    def __enter__(self) -> Self:
        """Start the server."""
        llmock = [sys.executable, "-c", "from llmock.cli import app; app()"]
        command = [*llmock, "serve", "--port", str(self._port), "--log-level", "warning"]
        self._process = Process.start("llmock", command, self._folder)
        self._process.wait_until(lambda: is_taken(self._port), 60)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        if self._process:
            # Killed, because an orderly end would wait for the answers that it delays.
            self._process.kill()

    def _call(self, path: str, body: object = None) -> Any:
        method = "GET" if body is None else "POST"
        url = f"http://{LOOPBACK}:{self._port}{path}"
        return httpx.request(method, url, json=body, timeout=10).raise_for_status().json()
