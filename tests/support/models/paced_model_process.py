"""Run the paced model as a separate process, and fetch its records."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support.checker.observations import ModelOutput
from support.models.paced_model import ModelCall

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

PROGRAM = Path(__file__).with_name("paced_model.py")


@dataclass(frozen=True, slots=True)
class ModelProcess:
    """A running model server."""

    port: int
    process: Process

    @classmethod
    def start(cls, python: str, logs: Path) -> Self:
        """Start the process; return once it listens. Only call this in the main thread."""
        port = free_port()
        process = Process.start("model", [python, str(PROGRAM), str(port)], logs)
        process.wait_until(lambda: is_taken(port), 30)
        return cls(port, process)

    @property
    def base_url(self) -> str:
        """The provider's OPENAI_BASE_URL."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    def fetch_calls(self) -> list[ModelCall]:
        """Return all calls so far."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        try:
            connection.request("GET", "/calls")
            return [ModelCall(**call) for call in json.loads(connection.getresponse().read())]
        finally:
            connection.close()

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()


def output_of(call: ModelCall) -> ModelOutput:
    """Return a call in the checker's form."""
    return ModelOutput(call.number, "".join(call.pieces), call.prefix, call.finished is not None, call.began)
