"""Traces by OpenTelemetry, which is imported only where they are on. Extra: otel."""
