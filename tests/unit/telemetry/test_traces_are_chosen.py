"""Traces are on where somebody has said so, and only then is anything of OpenTelemetry imported."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from chunkspool import Settings
from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.tracer import NO_TRACER
from chunkspool.tracing.choose import choose_tracer

PROJECT = Path(__file__).parents[3]
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
AWAY = """
import time
import chunkspool.tracing.sdk
chunkspool.tracing.sdk.CLOSE_SECONDS = 0.5
from chunkspool import Settings
from chunkspool.tracing.choose import choose_tracer
from chunkspool.tracing.sdk import close_sdk, start_sdk
tracer = choose_tracer(Settings())
sdk = start_sdk(tracer, "service")
assert sdk is not None
began = time.monotonic()
for _ in range(3000):
    with tracer.span("span", "client", {"a": 1}) as span:
        span.set("b", "c")
assert time.monotonic() - began < 2, time.monotonic() - began
began = time.monotonic()
close_sdk(sdk)
assert time.monotonic() - began < 2, time.monotonic() - began
"""
OWN = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from chunkspool import Settings
from chunkspool.tracer import TraceContext
from chunkspool.tracing.choose import choose_tracer
from chunkspool.tracing.sdk import start_sdk
tracer = choose_tracer(Settings.checked({"traces": "on"}))
mine, kept = TracerProvider(), InMemorySpanExporter()
mine.add_span_processor(SimpleSpanProcessor(kept))
trace.set_tracer_provider(mine)
assert start_sdk(tracer, "service") is None
assert trace.get_tracer_provider() is mine
with trace.get_tracer("the app").start_as_current_span("request") as request:
    outer = tracer.current()
    try:
        with tracer.span("inner", links=(None, outer)) as inner:
            assert tracer.current() == inner.context != outer
            raise ValueError("secret")
    except ValueError:
        pass
far = TraceContext.parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "vendor=1")
tracer.note("wait", far, 10.0, 2.5)
found, request, wait = kept.get_finished_spans()
assert found.parent.span_id == request.context.span_id == found.links[0].context.span_id
assert (found.attributes["error.type"], found.status.is_ok, found.status.description) == ("ValueError", False, None)
assert not found.events
assert f"{wait.context.trace_id:032x}" == far.trace_id and wait.parent.trace_state["vendor"] == "1"
assert (wait.start_time, wait.end_time) == (10_000_000_000, 12_500_000_000)
"""


@pytest.mark.parametrize(
    ("setting", "environ", "is_on"),
    [
        ("auto", {}, False),
        ("auto", ENDPOINT, True),
        ("auto", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ("auto", {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ("auto", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
        ("auto", {**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, False),
        ("off", ENDPOINT, False),
        ("on", {}, True),
    ],
)
def test_the_setting_and_the_variables_decide(setting: str, environ: dict[str, str], is_on: bool) -> None:
    """`auto` goes by OpenTelemetry's own variables."""
    tracer = choose_tracer(Settings.checked({"traces": setting}), environ)
    assert tracer.is_on is is_on
    assert is_on or tracer is NO_TRACER


def run(code: str, **environment: str) -> None:
    """Run code in a process of its own: a provider is set once in a process."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_an_exporter_that_is_away_costs_nothing() -> None:
    """Thousands of spans are not waited for, and the end of the process not for long."""
    began = time.monotonic()
    run(AWAY, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{LOOPBACK}:{free_port()}")
    assert time.monotonic() - began < 60


def test_the_sdk_of_an_app_is_used() -> None:
    """Never replaced; spans are below the app's own and say of an error its class alone."""
    run(OWN)
