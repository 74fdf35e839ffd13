"""A collector of OpenTelemetry's: takes spans by OTLP over HTTP, and keeps each byte that it was sent."""

from __future__ import annotations

import gzip
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from chunkspool.demo.ports import LOOPBACK

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """A span as it arrived. Times are Unix ns."""

    name: str
    kind: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[str, ...]
    attributes: dict[str, Any]
    began: int
    ended: int
    events: tuple[str, ...]
    failed: bool


@dataclass(eq=False)
class Collector:
    """Runs in a thread of the test, in a `with` block."""

    bodies: list[bytes] = field(default_factory=list)
    spans: list[ReceivedSpan] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    @property
    def endpoint(self) -> str:
        """The exporter's OTEL_EXPORTER_OTLP_ENDPOINT."""
        assert self._server is not None
        return f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def named(self, name: str) -> list[ReceivedSpan]:
        """Return the spans of this name so far."""
        return [span for span in self.spans if span.name == name]

    def take(self, body: bytes) -> None:
        """Read a request's body."""
        self.bodies.append(body)
        for of_process in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = _attributes_of(of_process.resource.attributes)["service.name"]
            self.spans += [_read(span, service) for scope in of_process.scope_spans for span in scope.spans]

    def __enter__(self) -> Self:
        """Listen."""
        take = self.take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.end_headers()
                self.wfile.write(ExportTraceServiceResponse().SerializeToString())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


def _read(span: trace_pb2.Span, service: str) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        kind=KINDS[span.kind],
        service=service,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes=_attributes_of(span.attributes),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        events=tuple(event.name for event in span.events),
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _attributes_of(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value_of(pair.value) for pair in pairs}


def _value_of(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value_of(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None


def drawn(spans: list[ReceivedSpan]) -> str:
    """Return the spans as a tree for people. A parent that never came is named."""
    known = {span.span_id for span in spans}
    children: dict[str, list[ReceivedSpan]] = {}
    for span in sorted(spans, key=lambda one: one.began):
        children.setdefault(span.parent_id, []).append(span)
    start = min(span.began for span in spans)
    lines: list[str] = []

    def draw(parent: str, depth: int) -> None:
        for span in children.get(parent, ()):
            at, took = (span.began - start) / 1e9, (span.ended - span.began) / 1e9
            said = ", ".join(f"{key}={value}" for key, value in sorted(span.attributes.items()))
            links = f" → links to {', '.join(span.links)}" if span.links else ""
            head = (
                f"{'  ' * depth}{span.name} [{span.kind}, {span.service}, {span.span_id}] at {at:.3f} s, {took:.3f} s"
            )
            lines.extend((f"{head}{links}", f"{'  ' * depth}    {said}"))
            draw(span.span_id, depth + 1)

    for parent in sorted(children, key=lambda one: children[one][0].began):
        if parent not in known:
            lines.append(f"({parent or 'no parent'})")
            draw(parent, 1)
    return "\n".join(lines)
