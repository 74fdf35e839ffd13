"""Sets messages aside that no worker can run, where an operator finds them: in a Redis list for each queue."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from celery import current_app
from celery.utils.log import get_logger
from celery.worker.consumer import Consumer
from redis.exceptions import RedisError

from chunkspool.errors import StoreError
from chunkspool.store.client import connect
from chunkspool.store.keys import QueueKeys
from chunkspool.tasks.equipment import equipment_of
from chunkspool.worker.rights import tell_refusal

logger = get_logger(__name__)

MESSAGES_MAX: Final = 1000
"""Messages kept of each queue; the oldest go first."""
CHARACTERS_MAX: Final = 65_536
"""Characters kept of one message."""
KEEP_SECONDS: Final = 7 * 86_400
"""How long the list is kept after its newest message."""


def set_aside(queue: str, message: object, why: str) -> None:
    """Keep a message and log where, without what it says: it may hold anything. Raises `StoreError` or `RedisError`.

    `message`: text, bytes, or anything that JSON can hold.
    """
    text = message.decode(errors="replace") if isinstance(message, bytes) else json.dumps(message, default=repr)
    letter = json.dumps({"at": int(time.time() * 1000), "why": why, "message": text[:CHARACTERS_MAX]})
    key = QueueKeys(queue).dead_letters
    url = equipment_of(current_app).settings.log.redis_url
    with closing(connect(url)) as client, client.pipeline(transaction=True) as pipeline:
        pipeline.lpush(key, letter)
        pipeline.ltrim(key, 0, MESSAGES_MAX - 1)
        pipeline.expire(key, KEEP_SECONDS)
        pipeline.execute()
    logger.error("a message of the queue %r %s; it was set aside in the Redis list %s", queue, why, key)


class CarefulConsumer(Consumer):
    """Celery's consumer, which any message survives.

    Celery discards what it cannot run and logs all of it, and some malformed messages end its main process.
    """

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Say that the broker cannot be reached, or which right it refuses."""
        tell_refusal(exc)
        super().on_connection_error_before_connected(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Say that the connection was lost, or which right the broker refuses; then reconnect."""
        tell_refusal(exc)
        super().on_connection_error_after_connected(exc)

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], object]:
        """Return the function that takes each message."""
        handle = super().create_task_handler(*args, **options)

        def take(message: Any) -> object:
            try:
                return handle(message)
            except (RedisError, StoreError, OSError):
                raise  # the connection's trouble, not the message's
            except Exception as error:  # noqa: BLE001 - whatever the message holds, the worker must live
                self._set_aside(message, f"cannot be taken ({type(error).__name__})")
                return None

        return take

    def on_unknown_message(self, body: object, message: Any) -> None:
        """Set aside what names no task."""
        if not self._is_set_aside(message, "is no task"):
            super().on_unknown_message(body, message)

    def on_unknown_task(self, body: object, message: Any, exc: Exception) -> None:
        """Set aside what names a task that is not registered here."""
        if not self._is_set_aside(message, "names a task that this worker does not have"):
            super().on_unknown_task(body, message, exc)

    def on_invalid_task(self, body: object, message: Any, exc: Exception) -> None:
        """Set aside what the task cannot be called with, or a content type that is not accepted."""
        if not self._is_set_aside(message, "is not a valid call of its task"):
            super().on_invalid_task(body, message, exc)

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Set aside what cannot be decoded."""
        if not self._is_set_aside(message, "cannot be decoded"):
            super().on_decode_error(message, exc)

    def _is_set_aside(self, message: Any, why: str) -> bool:
        """Set a message aside, unless its queue is one of the app's other tasks: there Celery does what it does."""
        queue = (message.delivery_info or {}).get("routing_key") or self.app.conf.task_default_queue
        if not equipment_of(self.app).has(str(queue)):
            return False
        self._set_aside(message, why)
        return True

    def _set_aside(self, message: Any, why: str) -> None:
        body = message.body.decode(errors="replace") if isinstance(message.body, bytes) else message.body
        kept = {"headers": message.headers, "properties": message.properties, "body": body}
        queue = self.app.conf.task_default_queue
        set_aside(str((message.delivery_info or {}).get("routing_key") or queue), kept, why)
        message.ack()
