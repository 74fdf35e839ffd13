"""The worker's log has no passwords of URLs in it, and nobody's words, whoever writes there."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject

from chunkspool import Settings
from chunkspool.errors import NotClaimed
from chunkspool.tasks.equipment import Equipment, note_equipment
from chunkspool.worker.logs import WorkerLog

SECRET = "hunter2"
URL = f"https://me:{SECRET}@host/v1"


def nothing() -> None:
    """Do nothing."""


@pytest.fixture
def app() -> Iterator[Celery]:
    """Provide an app that writes generations and has a task of its own."""
    with Celery("yours", set_as_current=False) as made:
        made.task(nothing, name="yours.other")
        made.task(nothing, name="answer", release_generations=print)
        yield made


def lines_of(
    app: Celery, message: str, *values: object, form: str = "text", error: Exception | None = None, **more: Any
) -> str:
    """Return what the worker's log has when this is written into it."""
    note_equipment(app, Equipment(Settings.checked({"log": form}), standalone=more.pop("standalone", True)))
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logger = logging.getLogger("celery.app.trace.tried")
    logger.handlers, logger.propagate = [handler], False
    for _ in range(2):  # Celery sends its signal more than once
        WorkerLog(app).take_over(logger)
    try:
        if error is not None:
            raise error
        logger.error(message, *values, **more)
    except (ValueError, Reject):
        logger.exception(message, *values, **more)
    return told.getvalue()


def test_a_line_is_masked(app: Celery) -> None:
    """Whether the URL stands in the text or in its arguments; the rest of the line stays."""
    assert lines_of(app, "HTTP Request: %s %s", "POST", URL) == "HTTP Request: POST https://me:***@host/v1\n"
    told = lines_of(app, f"redis://:{SECRET}@host:1/0 and redis://host?sentinel_password={SECRET}")
    assert told == "redis://:***@host:1/0 and redis://host?sentinel_password=***\n"


def test_a_traceback_has_no_message(app: Celery) -> None:
    """An error of a library may quote what it was given."""
    told = lines_of(app, "failed", error=ValueError(f"cannot open {URL}"))
    assert told.endswith("\nValueError\n")
    assert "test_logs.py" in told


FAILED = "Task %(name)s[%(id)s] %(description)s: %(exc)s"


def values_of(task: str, error: Exception) -> dict[str, str]:
    """Return what Celery logs of a failed task."""
    return {"name": task, "id": "g1", "description": "raised unexpected", "exc": repr(error), "traceback": SECRET}


@pytest.mark.parametrize("form", ["text", "json"])
def test_celerys_own_line_of_a_failure_is_cut(app: Celery, form: str) -> None:
    """Its exception is a text by then; where the message was given back, the reason is told."""
    error = ValueError(SECRET)
    told = lines_of(app, FAILED, values_of("answer", error), form=form, error=error)
    assert "Task answer[g1] raised unexpected: ValueError" in told
    assert SECRET not in told
    reason = Reject(NotClaimed("g1", "held"), requeue=True)
    told = lines_of(app, FAILED, values_of("answer", reason), form=form, error=reason)
    assert "Reject: NotClaimed: generation g1" in told


def test_a_line_on_a_task_names_its_generation(app: Celery) -> None:
    """Also in the main process, which knows the message's id alone."""
    data = {"data": {"id": "g1", "name": "answer"}}
    assert json.loads(lines_of(app, "received", form="json", extra=data))["generation"] == "g1"
    for other in ({"id": "g1", "name": "yours.other"}, {"id": "x" * 1000, "name": "answer"}, {"id": "g1"}):
        assert "generation" not in json.loads(lines_of(app, "received", form="json", extra={"data": other}))


@pytest.mark.parametrize("form", ["text", "json"])
def test_other_tasks_of_your_app_say_what_they_say(app: Celery, form: str) -> None:
    """Their failures are theirs to read."""
    error = ValueError("your words")
    other = values_of("yours.other", error)
    options = {"form": form, "error": error, "standalone": False}
    assert "your words" in lines_of(app, FAILED, other, extra={"data": other}, **options)
    ours = values_of("answer", error)
    assert "your words" not in lines_of(app, FAILED, ours, extra={"data": ours}, **options)
