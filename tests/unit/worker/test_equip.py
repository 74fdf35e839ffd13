"""Only the app that was equipped is changed, and only where a worker serves a queue of generations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from chunkspool.tasks.equipment import is_equipped, served_queues
from chunkspool.worker import equip as equip_app
from chunkspool.worker.equip import prepare_worker


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
