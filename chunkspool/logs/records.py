"""What of a log record is written: its text without anybody's words, its stack, its context."""

from __future__ import annotations

import copy
import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from chunkspool.errors import without_password
from chunkspool.logs.context import LogContext, current
from chunkspool.logs.exceptions import describe, is_safe, stack_of

MAX_MESSAGE: Final = 4096
"""Characters of a record's text."""
MAX_STACK: Final = 8192
"""Characters of its stack; what is in the middle is left out."""
_OF_MODELS: Final = frozenset(
    (
        *("openai", "anthropic", "LiteLLM", "LiteLLM Router", "LiteLLM Proxy", "litellm", "google_genai"),
        *("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "urllib3", "h11", "h2", "hpack", "boto3", "botocore"),
        *("langchain", "langchain_core", "langchain_community", "langgraph", "langsmith", "pydantic_ai"),
    )
)
"""Libraries through which prompts and answers go. What they log, they do not log for us, and it may change."""
_REQUEST_LINE: Final = re.compile(r'HTTP Request: [A-Z]+ \S+( "[^"\s]*( [^"\s]*){0,5}")?')
"""httpx's line on a request: method, URL, status. By its text, as a library's filter may have put it together."""
_QUERY: Final = re.compile(r"(://[^\s?#]*)[?#]\S*")
"""What follows a URL's path: with some models it has the key."""

_PLAIN: Final = logging.Formatter()

ContextOf = Callable[[logging.LogRecord], LogContext]


def context_here(_record: logging.LogRecord) -> LogContext:
    """Return the context of the code that logs."""
    return current()


def is_any(_record: logging.LogRecord) -> bool:
    """Tell that no record may quote anybody: in a process that is chunkspool's own."""
    return True


def may_quote(record: logging.LogRecord) -> bool:
    """Tell whether a record may quote a prompt or an answer: our own, those of a generation, those of model clients."""
    is_ours = record.name.partition(".")[0] in {"chunkspool", "asyncio"}
    return is_ours or _is_of_models(record) or current().generation is not None


def is_written(record: logging.LogRecord) -> bool:
    """Tell whether a record is written at all; a handler's filter."""
    return record.levelno >= logging.INFO or not _is_of_models(record)


def without_words(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy of the record that quotes nobody. Its message is a whole text, its stack is in `exc_text`."""
    plain = copy.copy(record)
    plain.msg, plain.args = _shorten(without_password(_message_of(record)), MAX_MESSAGE), None
    plain.exc_text = _stack_in(record)
    plain.exc_info = None
    # uvicorn's own second form of the message, with its values still to be filled in.
    plain.__dict__.pop("color_message", None)
    return plain


def in_full(record: logging.LogRecord) -> logging.LogRecord:
    """Return a copy of the record as `without_words` does, which says all that the record says, but for passwords."""
    full = copy.copy(record)
    full.msg, full.args = _shorten(without_password(record.getMessage()), MAX_MESSAGE), None
    if record.exc_info:
        full.exc_text = _shorten(without_password(_PLAIN.formatException(_error_info(record))), MAX_STACK)
        full.exc_info = None
    return full


def _message_of(record: logging.LogRecord) -> str:
    if _is_of_models(record):
        left_out = (
            f"a message of {record.name} ({record.filename}:{record.lineno}), left out because it may quote a prompt"
        )
        return _request_line(record) or left_out
    if record.name == "asyncio":
        # Its further lines show tasks and futures, with their exceptions.
        return str(record.msg).partition("\n")[0].partition("<")[0].strip()
    cut = copy.copy(record)
    cut.msg = _cut(record.msg)
    if isinstance(record.args, Mapping):
        cut.args = _of_celery({key: _cut(value) for key, value in record.args.items()})
    elif record.args:
        cut.args = tuple(map(_cut, record.args))
    try:
        return cut.getMessage()
    except Exception:  # noqa: BLE001 - values that do not fit the text; logging itself would print them all
        return f"a message that cannot be formatted ({record.filename}:{record.lineno})"


def _request_line(record: logging.LogRecord) -> str | None:
    """Return the line, without what follows the URL's path, if the record is one of a request."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - values that do not fit the text
        return None
    return _QUERY.sub(r"\1?…", message) if _REQUEST_LINE.fullmatch(message) else None


def _cut(value: Any) -> Any:
    return describe(value) if isinstance(value, BaseException) and not is_safe(value) else value


def _of_celery(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of Celery's lines on a task, whose exception is a text by now."""
    if isinstance(values.get("exc"), str) and "id" in values:
        raised = sys.exc_info()[1]
        values["exc"] = describe(raised) if raised is not None else values["exc"].partition("(")[0]
    return values


def _stack_in(record: logging.LogRecord) -> str | None:
    if not record.exc_info:
        return None
    error = _error_info(record)[1]
    return None if error is None else _shorten(without_password(stack_of(error)), MAX_STACK)


def _error_info(record: logging.LogRecord) -> Any:
    return record.exc_info if isinstance(record.exc_info, tuple) else sys.exc_info()


def _is_of_models(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in _OF_MODELS


def _shorten(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} … {len(text) - 2 * half} characters … {text[-half:]}"
