"""A log record is one line that quotes nobody, says what it is about, and is not long."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import ResponseError

from chunkspool.errors import InvalidRequest, ProviderError, SettingsError, StoreUnavailable
from chunkspool.logs.context import logged_as, note_request
from chunkspool.logs.exceptions import describe, stack_of
from chunkspool.logs.formatters import MAX_LINE, JsonLines, TextLines
from chunkspool.logs.records import is_written, may_quote
from chunkspool.tracer import TraceContext, error_type_of

SECRET = "secret"
PROJECT = Path(__file__).parents[3]


def lines_of(formatter: logging.Formatter, log: Callable[[logging.Logger], object], name: str = "any.logger") -> str:
    """Return what a handler with this formatter writes of what `log` logs."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(formatter)
    handler.addFilter(is_written)
    logger = logging.getLogger(name)
    before = logger.handlers, logger.level, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    log(logger)
    logger.handlers, logger.propagate = before[0], before[2]
    logger.setLevel(before[1])
    return told.getvalue()


def line_of(log: Callable[[logging.Logger], object], name: str = "any.logger", **options: Any) -> dict[str, Any]:
    """Return the only line that JSON has of it."""
    (line,) = lines_of(JsonLines(**options), log, name).splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def raise_error(error: Exception, cause: Exception | None = None) -> None:
    """Raise it."""
    raise error from cause


def raise_chain() -> None:
    """Raise an error with causes, all of which quote."""
    try:
        raise_error(KeyError(SECRET), ResponseError(f"unknown command, with args beginning with: {SECRET}"))
    except KeyError:
        raise ExceptionGroup(SECRET, [ValueError(SECRET), OSError(2, SECRET)]) from None


def fail(logger: logging.Logger) -> None:
    """Log an exception, also as a value."""
    try:
        raise_chain()
    except ExceptionGroup as error:
        logger.error("it failed: %s", error, exc_info=error)  # noqa: TRY400 - the same, and the error is one of the values


@pytest.mark.parametrize("formatter", [TextLines(logging.Formatter()), JsonLines()])
def test_an_exception_is_told_without_its_words(formatter: logging.Formatter) -> None:
    """Types, places and causes are there, in the text and in the stack."""
    told = lines_of(formatter, fail)
    assert SECRET not in told
    assert "it failed: ExceptionGroup" in told
    assert "ExceptionGroup of ValueError, FileNotFoundError: [Errno 2] No such file or directory" in told
    assert "test_log_lines.py" in told


def test_causes_are_told() -> None:
    """Oldest first, as Python does."""
    try:
        raise_error(StoreUnavailable("Redis is away"), ValueError(SECRET))
    except StoreUnavailable as error:
        told = stack_of(error)
    assert SECRET not in told
    assert told.index("\nValueError") < told.index("direct cause") < told.index("StoreUnavailable: Redis is away")


def test_a_long_stack_is_cut() -> None:
    """A recursion's end does not fill the log."""

    def recurse() -> None:
        recurse()

    def log(logger: logging.Logger) -> None:
        try:
            recurse()
        except RecursionError:
            logger.exception("too deep")

    line = line_of(log)
    assert line["exception"] == "RecursionError"
    assert len(line["stack"]) < 9000


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnavailable("away"), "StoreUnavailable: away"),
        (SettingsError("CHUNKSPOOL_TTL=0"), "SettingsError: CHUNKSPOOL_TTL=0"),
        (RedisAway("Error 111 connecting"), "ConnectionError: Error 111 connecting"),
        (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module named 'x'"),
        (ProviderError("refused", SECRET, retryable=False), "ProviderError[refused]"),
        (InvalidRequest(SECRET), "InvalidRequest"),
        (ResponseError(SECRET), "ResponseError"),
        (ValueError(SECRET), "ValueError"),
        (OSError(SECRET), "OSError"),
    ],
)
def test_what_an_operator_needs_stays(error: Exception, told: str) -> None:
    """Of errors that are known to quote nobody, what they say is told."""
    assert describe(error) == told


def test_a_record_says_what_it_is_about() -> None:
    """Tenant, chat, generation, attempt and trace, in the block that runs the generation, and nowhere else."""
    span = TraceContext("a" * 32, "b" * 16, "01")
    with logged_as("tenant", "chat", "generation") as logged:
        logged.note_attempt(2)
        line = line_of(lambda log: log.warning("%s words", 3), current_span=lambda: span)
    about = {name: line[name] for name in ("tenant", "chat", "generation", "attempt", "trace_id", "span_id")}
    assert about == {
        "tenant": "tenant",
        "chat": "chat",
        "generation": "generation",
        "attempt": 2,
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
    }
    assert (line["level"], line["logger"], line["message"]) == ("WARNING", "any.logger", "3 words")
    assert line["time"].endswith("Z")
    assert "chat" not in line_of(lambda log: log.info("x"))


async def test_a_request_says_what_it_is_about() -> None:
    """As far as it is known yet."""
    note_request("tenant", "chat")
    assert line_of(lambda log: log.info("x"))["chat"] == "chat"


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "\x00" * 100_000, "\U0001f600" * 100_000, "\ud800" * 100_000, "a\nb\rc\u2028d"]
)
def test_a_line_is_one_line_and_not_long(text: str) -> None:
    """Whatever is in it."""
    written = lines_of(JsonLines(), lambda log: log.info("%s", text))
    assert written.endswith("\n")
    assert written.count("\n") == 1
    assert len(written.encode()) <= MAX_LINE + 1
    assert json.loads(written)["message"]


def test_a_message_that_cannot_be_formatted_is_told_of() -> None:
    """Logging itself would print the values to stderr."""
    told = line_of(lambda log: log.info("%d words", SECRET))["message"]
    assert told.startswith("a message that cannot be formatted (test_log_lines.py:")


@pytest.mark.parametrize("name", ["openai._base_client", "LiteLLM", "httpx2", "anthropic", "langchain_core.tracers"])
def test_libraries_that_carry_prompts_say_little(name: str) -> None:
    """Nothing at DEBUG; above it, that they said something; httpx's line of a request is theirs to say."""
    assert lines_of(JsonLines(), lambda log: log.debug(SECRET), name) == ""
    told = line_of(lambda log: log.error(SECRET), name)["message"]
    assert SECRET not in told
    assert told.startswith(f"a message of {name} (test_log_lines.py:")
    request = line_of(lambda log: log.info('HTTP Request: %s %s "%s"', "POST", "http://a:b@c/v1", "200 OK"), "httpx2")
    assert request["message"] == 'HTTP Request: POST http://a:***@c/v1 "200 OK"'


@pytest.mark.parametrize("rest", [f"?key={SECRET}", f"?alt=sse&key={SECRET}#x", f"#{SECRET}", f"?a=?{SECRET}"])
def test_a_request_s_url_has_no_key(rest: str) -> None:
    """Some models take it in the query, which is left out."""
    for formatter in (JsonLines(), TextLines(logging.Formatter("%(message)s"))):
        said = lines_of(
            formatter, lambda log: log.info("HTTP Request: %s %s", "POST", f"https://a/v1:x{rest}"), "httpx"
        )
        assert "HTTP Request: POST https://a/v1:x?…" in said
        assert SECRET not in said


def test_a_request_s_line_may_come_put_together() -> None:
    """As by a library's filter; but nothing else may hide behind its first words."""
    line = f'HTTP Request: GET https://a/v1?key={SECRET} "HTTP/1.1 200 OK"'
    assert (
        line_of(lambda log: log.info(line), "httpx")["message"] == 'HTTP Request: GET https://a/v1?… "HTTP/1.1 200 OK"'
    )
    for other in (f"HTTP Request: POST https://a {SECRET}", f"HTTP Request: {SECRET}", f"{line} {SECRET}"):
        assert SECRET not in line_of(lambda log, other=other: log.info(other), "httpx")["message"]


def test_asyncio_shows_no_task() -> None:
    """It shows futures with their exceptions."""
    message = f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{SECRET}')>"
    assert line_of(lambda log: log.error(message), "asyncio")["message"] == "Task exception was never retrieved"


def test_an_app_s_other_records_say_what_they_say() -> None:
    """In a worker of an app of somebody's own; but for passwords."""

    def log(logger: logging.Logger) -> None:
        try:
            raise_error(ValueError("http://a:hunter2@c words"))
        except ValueError:
            logger.exception("theirs")

    for formatter in (TextLines(logging.Formatter(), may_quote), JsonLines(applies=may_quote)):
        told = lines_of(formatter, log)
        assert "ValueError: http://a:***@c words" in told
        with logged_as("t", "c", "g"):
            assert "words" not in lines_of(formatter, log).replace("\\n", "\n").partition("ValueError\n")[2]
        assert "ValueError:" not in lines_of(formatter, log, "chunkspool.tasks")


WHOLE_PROCESS = """
import logging, sys, threading, warnings
from chunkspool.logs.setup import set_up_log
set_up_log(sys.argv[1], "INFO", logging.Formatter("%(levelname)s %(message)s"))
def fail(): raise ValueError("se" + "cret")
logging.debug("not at this level")
logging.getLogger("any.library").info("it starts")
warnings.warn("take care")
thread = threading.Thread(target=fail, name="chunkspool-flusher")
thread.start()
thread.join()
fail()
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_process_of_ours_writes_nothing_past_its_log(form: str) -> None:
    """Not what ends a thread or the process itself, nor a warning."""
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", WHOLE_PROCESS, form], capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert SECRET not in done.stderr
    if form == "json":
        told = [json.loads(line) for line in done.stderr.splitlines()]
        levels = [line["level"] for line in told]
        assert levels == ["INFO", "WARNING", "ERROR", "CRITICAL"]
        assert [line.get("exception") for line in told[2:]] == ["ValueError", "ValueError"]
    else:
        assert "INFO it starts\n" in done.stderr
        assert done.stderr.endswith("\nValueError\n")


class Unprintable(StoreUnavailable):
    """Whose text cannot be had."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError(SECRET)


@pytest.mark.parametrize("formatter", [JsonLines(), TextLines(logging.Formatter("%(message)s"))])
def test_a_record_that_cannot_be_written_is_one_line(
    formatter: logging.Formatter, capsys: pytest.CaptureFixture[str]
) -> None:
    """It quotes nobody: logging itself would print all values, and the stack."""
    written = lines_of(
        formatter, lambda log: log.error("%s: %s", SECRET, Unprintable(SECRET), exc_info=Unprintable(""))
    )
    (line,) = written.splitlines()
    assert "a record that cannot be written (test_log_lines.py:" in line
    assert "ValueError)" in line
    assert SECRET not in line
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("code", [429, None, ["rate"]])
def test_a_code_that_is_no_text_is_left_out(code: Any) -> None:
    """A provider of somebody's own gives the number of its reply, for instance."""
    error = ProviderError(code, SECRET, retryable=True)
    assert describe(error) == "ProviderError"
    assert error_type_of(error) == "chunkspool.errors.ProviderError"
