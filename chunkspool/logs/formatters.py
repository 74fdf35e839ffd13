"""The two forms of a log: text as another formatter writes it, and JSON, one object a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from chunkspool.errors import without_password
from chunkspool.logs.records import ContextOf, context_here, in_full, is_any, without_words
from chunkspool.tracer import TraceContext

MAX_LINE: Final = 16_384
"""Bytes of a line in JSON."""

Applies = Callable[[logging.LogRecord], bool]
"""Tells to which records it applies that they quote nobody; the others are an app's own, and say what they say."""


class TextLines(logging.Formatter):
    """Writes as another formatter does, without anybody's words and without passwords."""

    def __init__(self, formatter: logging.Formatter, applies: Applies = is_any) -> None:
        """`formatter` makes the line."""
        super().__init__()
        self._formatter = formatter
        self._applies = applies

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        try:
            line = self._formatter.format(without_words(record) if self._applies(record) else record)
            return without_password(line) if "://" in line else line
        except Exception as error:  # noqa: BLE001 - else logging would print the record, with all that it quotes
            return f"{record.levelname}: {_instead_of(record, error)}"


class JsonLines(logging.Formatter):
    """Writes one JSON object a line: docs/how-to/run/logs.md has the fields."""

    def __init__(
        self,
        current_span: Callable[[], TraceContext | None] = lambda: None,
        context_of: ContextOf = context_here,
        applies: Applies = is_any,
    ) -> None:
        """`current_span` is asked for the trace, `context_of` for what a record is about."""
        super().__init__()
        self._current_span = current_span
        self._context_of = context_of
        self._applies = applies

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        try:
            return self._line_of(record)
        except Exception as error:  # noqa: BLE001 - as above
            fields = {"time": _time_of(record), "level": record.levelname, "logger": record.name}
            return _to_json(fields, _instead_of(record, error), "")

    def _line_of(self, record: logging.LogRecord) -> str:
        said = without_words(record) if self._applies(record) else in_full(record)
        fields = self._fields(record)
        message, stack = said.getMessage(), said.exc_text or ""
        line = _to_json(fields, message, stack)
        while len(line.encode()) > MAX_LINE and (message or stack):
            # Control characters and the like take six bytes in JSON. Of a stack, the end says most.
            message, stack = message[: len(message) // 2], stack[len(stack) - len(stack) // 2 :]
            line = _to_json(fields, message, stack)
        return line

    def _fields(self, record: logging.LogRecord) -> dict[str, object]:
        about, span = self._context_of(record), self._current_span()
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return {
            "time": _time_of(record),
            "level": record.levelname,
            "logger": record.name,
            "message": "",
            "tenant": about.tenant,
            "chat": about.chat,
            "generation": about.generation,
            "attempt": about.attempt,
            "trace_id": span and span.trace_id,
            "span_id": span and span.span_id,
            "exception": error and type(error).__name__,
            "erasure": getattr(record, "erasure", None),
            "process": record.process,
            "thread": record.threadName,
        }


def _time_of(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instead_of(record: logging.LogRecord, error: Exception) -> str:
    return f"a record that cannot be written ({record.filename}:{record.lineno}, {type(error).__name__})"


def _to_json(fields: dict[str, Any], message: str, stack: str) -> str:
    said = {name: value for name, value in fields.items() if value is not None}
    said |= {"message": message, **({"stack": stack} if stack else {})}
    # Lone surrogates are no UTF-8: a stream could not take the line.
    return json.dumps(said, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()
