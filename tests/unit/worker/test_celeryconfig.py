"""celeryconfig.py: data only, and the few values that the promises depend on."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

PATH = Path(__file__).parents[3] / "celeryconfig.py"
DATA = (ast.Expr, ast.ImportFrom, ast.Assign, ast.If)


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give an environment without settings."""
    for name in ("REDIS_URL", "BROKER_URL", "QUEUE", "IMPORTS", "REDELIVERY"):
        monkeypatch.delenv(f"CHUNKSPOOL_{name}", raising=False)
    return monkeypatch


def run_celeryconfig() -> dict[str, Any]:
    """Run the file; return the values that it sets."""
    return {name: value for name, value in runpy.run_path(str(PATH)).items() if name.islower() and name[0] != "_"}


def test_it_is_data() -> None:
    """No function, no class, no loop, no side effect: assignments, and one `if` for the kind of broker."""
    for node in ast.parse(PATH.read_text("utf-8")).body:
        assert isinstance(node, DATA), ast.dump(node)
        if isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)


@pytest.mark.usefixtures("environ")
def test_celery_knows_every_name() -> None:
    """Celery would ignore a misspelt setting; our own settings begin with `chunkspool_`."""
    known = set(Celery("names", set_as_current=False).conf.keys())
    assert not [name for name in run_celeryconfig() if name not in known and not name.startswith("chunkspool_")]


@pytest.mark.usefixtures("environ")
def test_messages_are_json_and_nothing_else() -> None:
    """A pickle in the queue could run anybody's code."""
    values = run_celeryconfig()
    assert values["accept_content"] == ["json"]
    assert values["task_serializer"] == "json"
    assert "result_serializer" not in values


@pytest.mark.usefixtures("environ")
def test_a_dead_workers_generation_goes_to_another() -> None:
    """Acknowledged when it has ended, one at a time, redelivered within seconds."""
    values = run_celeryconfig()
    assert values["task_acks_late"] is True
    assert values["task_reject_on_worker_lost"] is True
    assert values["worker_prefetch_multiplier"] == 1
    assert values["broker_connection_retry_on_startup"] is True
    assert values["broker_connection_max_retries"] is None


@pytest.mark.usefixtures("environ")
def test_there_is_no_result_backend() -> None:
    """The results are in the log."""
    values = run_celeryconfig()
    assert "result_backend" not in values
    assert values["task_ignore_result"] is True


def test_the_settings_decide(environ: pytest.MonkeyPatch) -> None:
    """Broker, queue and further modules come from the environment; another broker gets no Redis options."""
    environ.setenv("CHUNKSPOOL_BROKER_URL", "amqp://host//")
    environ.setenv("CHUNKSPOOL_QUEUE", "mine")
    environ.setenv("CHUNKSPOOL_IMPORTS", "one.tasks, two,")
    values = run_celeryconfig()
    assert values["broker_url"] == "amqp://host//"
    assert values["task_default_queue"] == "mine"
    assert values["imports"][-2:] == ("one.tasks", "two")
    assert "broker_transport_options" not in values
    assert values["broker_heartbeat"] == 8


def test_there_is_one_configuration() -> None:
    """The worker's module is a link to the file, not a copy that could become another."""
    assert (PATH.parent / "worker" / "celeryconfig.py").readlink() == Path("..") / PATH.name
