"""An OpenAI-compatible server that sends what a request asks for, at its pace, and records every call.

`python paced_model.py PORT`. Each piece of text is `<call.piece>`, so it shows which call it is from. A request may
hold `paced`: {`pieces`, `pace` (seconds before each piece), `silent_after` (pieces), `refuse_continuing`}; if the last
message is the assistant's, the answer continues from its text. `GET /calls` returns everything requested and sent.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

LOOPBACK = "127.0.0.1"
MODEL = "paced"
STREAM = "200 OK\r\ncontent-type: text/event-stream"
JSON = "200 OK\r\ncontent-type: application/json"
BAD = "400 Bad Request\r\ncontent-type: application/json"
MISSING = "404 Not Found\r\ncontent-type: application/json"


@dataclass(slots=True)
class ModelCall:
    """One model call. Times are Unix ms."""

    number: int
    key: str
    prompt: str
    prefix: str
    began: int
    pieces: list[str] = field(default_factory=list)
    refused: bool = False
    finished: int | None = None
    closed: int | None = None
    """When the client closed the connection, if that was before the end."""

    @property
    def ended(self) -> bool:
        """Whether the connection has ended."""
        return self.finished is not None or self.closed is not None or self.refused


class PacedModel:
    """The calls so far. Refused ones are numbered, too."""

    def __init__(self) -> None:
        """Start without calls."""
        self.calls: list[ModelCall] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection's one request."""
        try:
            path, headers, body = await _read_request(reader)
            if path == "/v1/chat/completions":
                await self._complete(headers, json.loads(body), reader, writer)
            elif path == "/v1/models":
                await _respond(writer, JSON, json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}))
            elif path == "/calls":
                await _respond(writer, JSON, json.dumps([asdict(call) for call in self.calls]))
            else:
                await _respond(writer, MISSING, "{}")
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has disconnected: the call's record says so
        finally:
            writer.close()

    async def _complete(
        self,
        headers: Mapping[str, str],
        request: Mapping[str, Any],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        *_, last = messages = request["messages"]
        prefix = str(last["content"]) if last["role"] == "assistant" else ""
        prompt = next(str(message["content"]) for message in reversed(messages) if message["role"] == "user")
        key = headers.get("authorization", "").removeprefix("Bearer ")
        call = ModelCall(len(self.calls) + 1, key, prompt, prefix, _now_ms())
        self.calls.append(call)
        paced = request.get("paced", {})
        if prefix and paced.get("refuse_continuing"):
            call.refused = True
            await _respond(writer, BAD, json.dumps({"error": {"message": "no assistant prefill here", "code": 400}}))
            return
        stream = asyncio.ensure_future(_stream_pieces(call, paced, writer))
        disconnect = asyncio.ensure_future(reader.read())
        await asyncio.wait({stream, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if not stream.done() or stream.exception() is not None:
            call.closed = _now_ms()
        for task in (stream, disconnect):
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task


async def _stream_pieces(call: ModelCall, paced: Mapping[str, Any], writer: asyncio.StreamWriter) -> None:
    await _respond(writer, STREAM, "")
    for piece in range(call.prefix.count("<"), paced.get("pieces", 10)):
        if piece == paced.get("silent_after"):
            await asyncio.Event().wait()
        await asyncio.sleep(paced.get("pace", 0))
        text = f"<{call.number}.{piece}>"
        # Recorded before it is sent, so that no client has more than the record.
        call.pieces.append(text)
        await _send_chunk(writer, {"choices": [{"index": 0, "delta": {"content": text}}]})
    await _send_chunk(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    call.finished = _now_ms()
    writer.write(b"data: [DONE]\n\n")
    await writer.drain()


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return first.split(" ")[1], headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def _respond(writer: asyncio.StreamWriter, status: str, body: str) -> None:
    # Closing the connection ends the body.
    writer.write(f"HTTP/1.1 {status}\r\nconnection: close\r\n\r\n{body}".encode())
    await writer.drain()


async def _send_chunk(writer: asyncio.StreamWriter, chunk: Mapping[str, Any]) -> None:
    writer.write(f"data: {json.dumps({'object': 'chat.completion.chunk', 'model': MODEL, **chunk})}\n\n".encode())
    await writer.drain()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def main(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.start_server(PacedModel().serve, LOOPBACK, port, backlog=512)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
