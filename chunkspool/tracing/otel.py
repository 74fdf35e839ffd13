"""The tracer that is OpenTelemetry's API. Who records and sends is whichever SDK the process has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import MappingProxyType
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from chunkspool.tracer import Attribute, Kind, Span, TraceContext, error_type_of

_KINDS: Final = {
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
    "internal": SpanKind.INTERNAL,
}
_VERSION: Final = version("chunkspool")
_NANOSECONDS: Final = 1_000_000_000


class OtelSpan:
    """A span of OpenTelemetry's, of which only this much is used: nothing here takes an exception or a text."""

    def __init__(self, span: trace.Span) -> None:
        """Take it over."""
        self._span = span

    @property
    def context(self) -> TraceContext | None:
        """Its context."""
        return _from_otel(self._span.get_span_context())

    def set(self, name: str, value: Attribute) -> None:
        """Set an attribute."""
        self._span.set_attribute(name, _as_value(value))

    def rename(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def fail(self, error_type: str) -> None:
        """Note that it failed."""
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(Status(StatusCode.ERROR))


class OtelTracer:
    """Asks for the process's provider at each span: an app may set its own late, a child of a pool after its fork."""

    is_on = True

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Mapping[str, Attribute] = MappingProxyType({}),
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext | None] = (),
    ) -> Iterator[Span]:
        """Time a block."""
        made = _tracer().start_span(
            name,
            context=_below(parent),
            kind=_KINDS[kind],
            attributes={key: _as_value(value) for key, value in attributes.items()},
            links=[Link(_to_otel(link)) for link in links if link is not None],
            record_exception=False,
            set_status_on_exception=False,
        )
        span = OtelSpan(made)
        with trace.use_span(made, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                failed = error_type_of(error)
                if failed is not None:
                    span.fail(failed)
                raise

    def note(self, name: str, parent: TraceContext | None, began: float, seconds: float) -> None:
        """Make a span of something that is over."""
        start = int(began * _NANOSECONDS)
        made = _tracer().start_span(name, context=_below(parent), start_time=start)
        made.end(start + int(max(0.0, seconds) * _NANOSECONDS))

    def current(self) -> TraceContext | None:
        """Return the context of the current span."""
        return _from_otel(trace.get_current_span().get_span_context())


def _tracer() -> trace.Tracer:
    return trace.get_tracer("chunkspool", _VERSION)


def _below(parent: TraceContext | None) -> Context | None:
    return None if parent is None else set_span_in_context(NonRecordingSpan(_to_otel(parent)))


def _as_value(value: Attribute) -> AttributeValue:
    return value if isinstance(value, str | int | float | bool) else list(value)


def _to_otel(context: TraceContext) -> SpanContext:
    state = TraceState.from_header([context.state]) if context.state else TraceState()
    ids = int(context.trace_id, 16), int(context.span_id, 16)
    return SpanContext(*ids, is_remote=True, trace_flags=TraceFlags(int(context.flags, 16)), trace_state=state)


def _from_otel(context: SpanContext) -> TraceContext | None:
    if not context.is_valid:
        return None
    flags = f"{int(context.trace_flags) & 0xFF:02x}"
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags}"
    return TraceContext.parse(traceparent, context.trace_state.to_header() if context.trace_state else "")
