"""The messages of a queue of generations are held apart, however the app routes to it."""

from __future__ import annotations

import pytest
from celery import Celery
from kombu import Exchange, Queue

from chunkspool.worker.redelivery import routed_as

TOPIC = Exchange("tasks", type="topic")


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (Queue("celery"), ("chunkspool", "generations.#")),
        (Queue("celery", TOPIC, routing_key="generations.#"), ("chunkspool",)),
    ],
    ids=["a key of its own", "a key that others have"],
)
def test_a_routing_key_of_its_own_names_the_queue(other: Queue, names: tuple[str, ...]) -> None:
    """One that a queue of other tasks has, too, does not: their messages stay where Celery holds them."""
    app = Celery("yours", set_as_current=False)
    app.conf.task_queues = [other, Queue("chunkspool", TOPIC, routing_key="generations.#")]
    assert routed_as(app, ("chunkspool",)) == names


def test_a_queue_that_is_only_named_needs_no_more() -> None:
    """Celery makes it with its name as the routing key."""
    app = Celery("yours", set_as_current=False)
    app.amqp.queues.select(["celery", "chunkspool"])
    assert routed_as(app, ("chunkspool",)) == ("chunkspool",)
