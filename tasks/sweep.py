"""The sweep as a Celery task: it asks the broker whether the queue is empty, and ends what is lost."""

from __future__ import annotations

from celery import Celery, current_app, shared_task

from chunkspool import Settings, Spool


@shared_task(name="chunkspool.sweep", ignore_result=True)
def sweep() -> list[str]:
    """Return the ids of the generations that it has ended. Every worker calls it from time to time."""
    settings = Settings.from_env()
    with Spool.from_settings(settings) as spool:
        return list(spool.sweep(queue_is_empty=queue_is_empty(current_app, settings.queue)))


def queue_is_empty(app: Celery, queue: str) -> bool:
    """Tell whether the broker holds no message that waits for a worker."""
    with app.connection_for_read() as connection:
        try:
            declared = connection.default_channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            return True  # nobody has ever used it
        return not declared.message_count
