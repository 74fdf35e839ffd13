"""Makes the process's tracer provider: spans are gathered by a thread and sent by OTLP over HTTP."""

from __future__ import annotations

import os
import socket

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def install(service: str) -> TracerProvider | None:
    """Set the provider; None if there is one."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    names: dict[str, str | int] = {"host.name": socket.gethostname(), "process.pid": os.getpid()}
    if not _has_name():
        names["service.name"] = service
    # Its own hook at the end of the process would wait for an exporter that is away.
    provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def _has_name() -> bool:
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return bool(os.environ.get("OTEL_SERVICE_NAME")) or "service.name=" in given
