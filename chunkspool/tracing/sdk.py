"""Sets up OpenTelemetry's SDK in a process that is chunkspool's own, unless somebody has done so before."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from chunkspool.tracer import Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

CLOSE_SECONDS: Final = 3.0
"""How long the end of a process waits for its last spans to be sent: the exporter may be away."""
_LOG = logging.getLogger(__name__)


def start_sdk(tracer: Tracer, service: str) -> TracerProvider | None:
    """Send what `tracer` makes where OTEL_EXPORTER_OTLP_ENDPOINT says; return what `close_sdk` takes.

    None where nothing is traced, or where the app has set a provider: that one is used. `service`: the name, unless
    OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES gives one. To be called in the process that makes the spans: the
    thread that sends them does not survive a fork.
    """
    if not tracer.is_on:
        return None
    try:
        from chunkspool.tracing import provider  # noqa: PLC0415 - it imports the SDK
    except ModuleNotFoundError as missing:
        _LOG.warning("traces are on, and nothing sends them: %s is not installed (chunkspool[otel])", missing.name)
        return None
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {None, "", "http/protobuf"}:
        _LOG.warning("spans are sent as http/protobuf: OTEL_EXPORTER_OTLP_PROTOCOL=%s is not supported", protocol)
    return provider.install(service)


def close_sdk(provider: TracerProvider | None) -> None:
    """Send what is left, for a few seconds."""
    if provider is None:
        return
    # An exporter that is away tries again for longer than a process may take to end.
    closing = threading.Thread(target=provider.shutdown, name="chunkspool-traces", daemon=True)
    closing.start()
    closing.join(CLOSE_SECONDS)
