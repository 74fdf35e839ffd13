"""Decides whether this process traces: by the setting, else by OpenTelemetry's own variables."""

from __future__ import annotations

import os
from collections.abc import Mapping

from chunkspool.errors import ExtraMissing
from chunkspool.settings import Settings
from chunkspool.tracer import NO_TRACER, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def choose_tracer(settings: Settings, environ: Mapping[str, str] = os.environ) -> Tracer:
    """Return the tracer. Raises `ExtraMissing` where traces are to be on and OpenTelemetry is not installed."""
    wanted = settings.telemetry.traces
    if wanted == "off" or (wanted == "auto" and not is_asked_for(environ)):
        return NO_TRACER
    try:
        from chunkspool.tracing.otel import OtelTracer  # noqa: PLC0415 - it imports OpenTelemetry
    except ModuleNotFoundError as missing:
        if wanted == "auto":
            return NO_TRACER
        raise ExtraMissing("otel", "opentelemetry-api") from missing
    return OtelTracer()


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Tell whether OpenTelemetry's variables say where traces go."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return False
    return bool(exporter or any(environ.get(name) for name in _ENDPOINTS))
