"""What a trace is to the library: the context that travels with a generation, and a tracer that does nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self

from chunkspool.errors import Interrupted, NotClaimed, ProviderError

MAX_STATE: Final = 512
"""Characters of a `tracestate`: as many as the specification asks everybody to pass on."""
_MAX_PARENT: Final = 256
# Versions after 00 may have more behind the flags; ff is none.
_PARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?", re.ASCII)
_MEMBER: Final = r"[a-z0-9][a-z0-9_*/@-]{0,255}=[ !-+\--<>-~]{0,255}[!-+\--<>-~]"
_STATE: Final = re.compile(rf"{_MEMBER}(?:[ \t]*,[ \t]*{_MEMBER}){{0,31}}", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,59}", re.ASCII)

Kind = Literal["server", "producer", "consumer", "client", "internal"]
Attribute = str | int | float | bool | Sequence[str]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Which span of which trace something belongs to: W3C Trace Context."""

    trace_id: str
    span_id: str
    flags: str
    state: str = ""

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> Self | None:
        """Read the two headers; None where the first is not valid. A `tracestate` that is not is left out."""
        found = _PARENT.fullmatch(traceparent) if len(traceparent) <= _MAX_PARENT else None
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if (version == "00" and more) or not int(trace_id, 16) or not int(span_id, 16):
            return None
        is_valid = len(tracestate) <= MAX_STATE and _STATE.fullmatch(tracestate)
        return cls(trace_id, span_id, flags, tracestate if is_valid else "")

    @classmethod
    def stored(cls, text: str) -> Self | None:
        """Read what `encode` gave; None for anything else."""
        traceparent, _, tracestate = text.partition(" ")
        return cls.parse(traceparent, tracestate)

    def encode(self) -> str:
        """Return both headers in one text, to be stored."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags} {self.state}".rstrip()


class Span(Protocol):
    """A piece of work that is timed. It is given no text of anybody: no prompt, no answer, no error's message."""

    @property
    def context(self) -> TraceContext | None:
        """Its context, for those that follow; None if nothing is traced."""

    def set(self, name: str, value: Attribute) -> None:
        """Set an attribute."""

    def rename(self, name: str) -> None:
        """Give it another name."""

    def fail(self, error_type: str) -> None:
        """Note that it failed: a code, or the name of an error's class."""


class Tracer(Protocol):
    """Makes spans."""

    is_on: bool
    """Whether anything is traced at all."""

    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Mapping[str, Attribute] = ...,
        *,
        parent: TraceContext | None = None,
        links: Sequence[TraceContext | None] = (),
    ) -> AbstractContextManager[Span]:
        """Time a block, in which the span is the current one. An error that leaves the block fails it.

        Without a `parent`, it is a child of the current span, if there is one.
        """

    def note(self, name: str, parent: TraceContext | None, began: float, seconds: float) -> None:
        """Make a span of something that is over: it began at a Unix time and took so many seconds."""

    def current(self) -> TraceContext | None:
        """Return the context of the current span, whoever made it."""


class _NoSpan:
    context = None

    def set(self, name: str, value: Attribute) -> None:
        """Do nothing."""

    def rename(self, name: str) -> None:
        """Do nothing."""

    def fail(self, error_type: str) -> None:
        """Do nothing."""


class NoTracer:
    """Traces nothing."""

    is_on = False

    def span(self, *_: object, **__: object) -> AbstractContextManager[Span]:
        """Return a block that does nothing."""
        return _NOTHING

    def note(self, *_: object) -> None:
        """Do nothing."""

    def current(self) -> None:
        """Return nothing."""


_NOTHING: Final[AbstractContextManager[Span]] = nullcontext(_NoSpan())
NO_TRACER: Final = NoTracer()


def error_type_of(error: BaseException) -> str | None:
    """Return what a span may say of an error: a code, or its class. Its message may quote a prompt. None: it is none.

    That a generation was stopped or released is no failure, nor that somebody else has it or has ended it, nor that a
    block was left before its end.
    """
    if isinstance(error, Interrupted | NotClaimed | GeneratorExit | asyncio.CancelledError):
        return None
    code: object = error.code if isinstance(error, ProviderError) else None
    if isinstance(code, str) and _PLAIN.fullmatch(code):
        return code
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def plain_name(text: object, *, longest: int = 60) -> str | None:
    """Return a word that somebody else's server gave, if it is a name and no text; else None."""
    is_name = isinstance(text, str) and len(text) <= longest and re.fullmatch(r"[\w./:@+-]+", text, re.ASCII)
    return str(text) if is_name else None
