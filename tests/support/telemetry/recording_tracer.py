"""A tracer that keeps its spans, for tests within one process."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from chunkspool.tracer import Attribute, Kind, TraceContext, error_type_of

_IDS = itertools.count(1)
_CURRENT: ContextVar[TraceContext | None] = ContextVar("recorded_span", default=None)


@dataclass(slots=True)
class RecordedSpan:
    """A span."""

    name: str
    kind: Kind
    context: TraceContext
    parent: TraceContext | None
    links: tuple[TraceContext, ...]
    attributes: dict[str, Attribute]
    failed: str | None = None
    seconds: float | None = None

    def set(self, name: str, value: Attribute) -> None:
        """Set an attribute."""
        self.attributes[name] = value

    def rename(self, name: str) -> None:
        """Give it another name."""
        self.name = name

    def fail(self, error_type: str) -> None:
        """Note that it failed."""
        self.failed = error_type


@dataclass(slots=True)
class RecordingTracer:
    """Keeps what it is told."""

    spans: list[RecordedSpan] = field(default_factory=list)
    is_on: bool = True

    def named(self, name: str) -> RecordedSpan:
        """Return the only span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Mapping[str, Attribute] | None = None,
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext | None] = (),
    ) -> Iterator[RecordedSpan]:
        """Time a block."""
        span = self._make(name, kind, parent or _CURRENT.get(), links)
        span.attributes.update(attributes or {})
        token = _CURRENT.set(span.context)
        try:
            yield span
        except BaseException as error:
            span.failed = error_type_of(error)
            raise
        finally:
            _CURRENT.reset(token)

    def note(self, name: str, parent: TraceContext | None, _began: float, seconds: float) -> None:
        """Keep a span of something that is over."""
        self._make(name, "internal", parent, ()).seconds = seconds

    def current(self) -> TraceContext | None:
        """Return the context of the current span."""
        return _CURRENT.get()

    def _make(
        self, name: str, kind: Kind, parent: TraceContext | None, links: Sequence[TraceContext | None]
    ) -> RecordedSpan:
        number = next(_IDS)
        trace_id = parent.trace_id if parent else f"{number:032x}"
        context = TraceContext(trace_id, f"{number:016x}", "01", parent.state if parent else "")
        span = RecordedSpan(name, kind, context, parent, tuple(link for link in links if link), {})
        self.spans.append(span)
        return span
