"""A broker in this process's memory: a Celery app that is nobody's current one, and leaves no queue behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery

MEMORY = "memory://localhost/"


@contextmanager
def memory_app(queue: str) -> Iterator[Celery]:
    """Give an app whose messages stay in memory; at the end of the block its `queue` is gone."""
    app = Celery("chunkspool-testing", set_as_current=False)
    # Celery prefers CELERY_BROKER_URL, which is that of a real broker, to an app's `broker_url`, but not to these.
    app.conf.update(broker_read_url=MEMORY, broker_write_url=MEMORY)
    app.conf.update(task_serializer="json", accept_content=["json"])
    try:
        yield app
    finally:
        # kombu keeps queues and their bindings with its classes, for the process. `queue_delete` leaves a queue that is
        # bound to no exchange.
        with app.connection_for_write() as connection, connection.channel() as channel:
            channel.queue_delete(queue)
            if queue in channel.state.exchanges:  # nobody has made it if nothing was sent
                channel.exchange_delete(queue)
            channel.queues.pop(queue, None)
        app.close()
