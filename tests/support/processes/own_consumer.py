"""A consumer of somebody's own, for a Celery app's `worker_consumer`."""

from __future__ import annotations

from typing import Any

from celery.utils.log import get_logger
from celery.worker.consumer import Consumer

logger = get_logger(__name__)


class OwnConsumer(Consumer):  # type: ignore[misc] # Celery has no types
    """Celery's, which says that it is another one."""

    def start(self, *args: Any, **options: Any) -> None:
        """Say so, and start."""
        logger.warning("this consumer is the app's own")
        super().start(*args, **options)
