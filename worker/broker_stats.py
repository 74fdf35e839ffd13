"""Keeps passwords out of `celery inspect stats`, which everybody who can reach the broker or Flower may read."""

from __future__ import annotations

from typing import Any

from celery.worker.control import Panel
from celery.worker.control import stats as celerys_stats

from chunkspool.errors import without_password


def install() -> None:
    """Take the place of Celery's own command."""
    Panel.data["stats"] = stats


def stats(state: Any, **arguments: object) -> dict[str, Any]:
    """Answer as Celery does, less what it leaves in: a Unix socket's password, and that of the Sentinels."""
    found: dict[str, Any] = celerys_stats(state, **arguments)
    broker = found.get("broker")
    if isinstance(broker, dict):  # it is a word while there is no connection
        options = {name: value for name, value in broker["transport_options"].items() if name != "sentinel_kwargs"}
        found["broker"] = {**broker, "hostname": without_password(broker["hostname"]), "transport_options": options}
    return found
