"""Only the app that was equipped is changed, and only where a worker serves a queue of generations."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from chunkspool.tasks.equipment import is_equipped, served_queues
from chunkspool.worker import equip as equip_app
from chunkspool.worker.equip import prepare_worker

equip_module = sys.modules[prepare_worker.__module__]  # its package has a function of that name


def steps_of(app: Any) -> dict[str, set[Any]]:
    """Return what runs in the app's workers beside Celery's own."""
    return {kind: set(steps) for kind, steps in app.steps.items()}


@pytest.mark.parametrize(("is_given", "queue"), [(False, "chunkspool"), (True, "celery")])
def test_a_worker_of_other_tasks_is_left_alone(is_given: bool, queue: str) -> None:
    """Another app of the process, whatever its queue is called; and the equipped one's worker of another queue."""
    with Celery("equipped", set_as_current=False) as equipped, Celery("other", set_as_current=False) as other:
        equip_app(equipped)
        app = equipped if is_given else other
        assert is_equipped(app) is is_given
        app.amqp.queues.select([queue])
        before, conf = steps_of(app), (app.conf.worker_consumer, dict(app.conf.broker_transport_options))
        prepare_worker(SimpleNamespace(app=app))
        assert (steps_of(app), (app.conf.worker_consumer, dict(app.conf.broker_transport_options))) == (before, conf)


PROJECT = Path(__file__).parents[3]
STARTING = """
import sys
from types import SimpleNamespace
from celery import Celery
from chunkspool import Settings
from chunkspool.errors import ChunkspoolError
from chunkspool.web.serve import serve
from chunkspool.worker import equip, rights
from chunkspool.worker.equip import prepare_worker
sys.modules.update(dict.fromkeys({missing!r}))
rights.check_worker = lambda _: None  # there is no Redis
app = equip(Celery("x"), standalone=True)
app.amqp.queues.select(["chunkspool"])
try:
    prepare_worker(SimpleNamespace(app=app, pool_cls="prefork", prefetch_multiplier=4, consumer_cls=None))
except SystemExit as end:
    print(end.code)
try:
    serve(Settings.from_env(), "127.0.0.1", 0, open_access=True)
except ChunkspoolError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("named", "missing", "said"),
    [
        ({"PROMETHEUS_MULTIPROC_DIR": "/nowhere/metrics"}, (), "set PROMETHEUS_MULTIPROC_DIR to one that exists"),
        ({}, ("prometheus_client",), "pip install 'chunkspool[metrics]'"),
        ({"CHUNKSPOOL_TRACES": "on"}, ("opentelemetry",), "pip install 'chunkspool[otel]'"),
    ],
)
def test_neither_worker_nor_web_starts_half_prepared(
    named: dict[str, str], missing: tuple[str, ...], said: str
) -> None:
    """Both say what is to be done, and end: a worker would have no sweeper, and a log that quotes prompts."""
    metrics = {"CHUNKSPOOL_METRICS_PORT": "1", "CHUNKSPOOL_METRICS_TOKEN": "t" * 32}
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", STARTING.format(missing=missing)],
        env={**os.environ, **metrics, "CHUNKSPOOL_PROVIDER": "scripted", "PYTHONPATH": str(PROJECT), **named},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    of_worker, of_web = done.stdout.splitlines() or [done.stderr, ""]
    assert of_worker.startswith("chunkspool: ")
    assert said in of_worker
    assert said in of_web


def test_any_other_error_ends_the_worker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its type and the place where it was raised."""

    def fail(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr(equip_module, "_check", fail)
    with Celery("equipped", set_as_current=False) as app:
        equip_app(app)
        app.amqp.queues.select(["chunkspool"])
        with pytest.raises(SystemExit, match=r"(?s)Traceback.*in fail.*KeyError$"):
            prepare_worker(SimpleNamespace(app=app))


def test_the_queues_of_generations_are_known() -> None:
    """Those that were given, and no other that the worker serves."""
    with Celery("equipped", set_as_current=False) as app:
        equip_app(app, queues=("gold", "chunkspool"))
        app.amqp.queues.select(["celery", "gold"])
        assert served_queues(app) == ("gold",)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_configuration_is_read_when_it_is_needed(is_first: bool) -> None:
    """Whichever call is the first, what the app is to be configured from is not imported."""
    with Celery("lazy", set_as_current=False) as app:
        for call in (equip_app, name_settings) if is_first else (name_settings, equip_app):
            call(app)
        assert not app.configured
        with pytest.raises(ModuleNotFoundError, match="settings_of_nobody"):
            served_queues(app)


def name_settings(app: Any) -> None:
    """Say where the settings are, as a Django project does."""
    app.config_from_object("settings_of_nobody", namespace="CELERY")
