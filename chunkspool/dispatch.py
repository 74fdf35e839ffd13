"""Hands a generation to Celery. The message holds ids only: Flower and logs show a task's arguments."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from chunkspool.errors import EnqueueFailed, without_password
from chunkspool.settings import Settings

if TYPE_CHECKING:  # so that `import chunkspool` does not load Celery
    from celery import Celery

RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1}
"""One more try for a connection that went stale in the pool; a broker that is away is the caller's to hear of."""

_ONE_AT_A_TIME = threading.Lock()
"""Celery's lazy module cannot stand threads that import from it for the first time at once (ImportError)."""


class Dispatcher:
    """Publishes through the app that was passed in, or through one of its own, made at the first message."""

    def __init__(self, settings: Settings, app: Celery | None = None) -> None:
        """Connect nothing yet."""
        self._settings = settings
        self._given = app
        self._own: Celery | None = None

    def publish(self, tenant: str, chat_id: str, generation_id: str) -> None:
        """Send the message; its task id is the generation's id. Raises `EnqueueFailed`."""
        try:
            self._app().send_task(
                self._settings.task,
                args=[tenant, chat_id, generation_id],
                task_id=generation_id,
                queue=self._settings.queue,
                ignore_result=True,
                serializer="json",
                retry=True,
                retry_policy=RETRY_POLICY,
            )
        except Exception as error:
            # Whatever kept the message from the broker, the caller must hear of it and the generation must end.
            why = without_password(str(error)) or type(error).__name__
            raise EnqueueFailed(chat_id, generation_id, why) from error

    def close(self) -> None:
        """Close the connections of an app of our own."""
        if self._own is not None:
            self._own.close()
            self._own = None

    def _app(self) -> Celery:
        if self._given is not None:
            return self._given
        with _ONE_AT_A_TIME:
            if self._own is None:
                self._own = self._made()
            return self._own

    def _made(self) -> Celery:
        from celery import Celery  # noqa: PLC0415 - here, so that readers never load Celery

        timeout = self._settings.publish_timeout
        app = Celery("chunkspool-client", broker=self._settings.broker, set_as_current=False)
        app.conf.update(
            task_serializer="json",
            accept_content=["json"],
            broker_connection_timeout=timeout,
            broker_transport_options={"socket_connect_timeout": timeout / 2, "socket_timeout": timeout},
        )
        return app
