"""What both faces make of their arguments: settings, where a subscription starts, and what a call cannot do without."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from chunkspool.errors import SettingsError, SpoolClosed
from chunkspool.reading.cursor import Cursor
from chunkspool.request import GenerationRequest, Message
from chunkspool.settings import Settings
from chunkspool.spool.dispatch import Dispatcher
from chunkspool.store import queries
from chunkspool.store.commands import Transaction
from chunkspool.store.keys import ChatKeys

Messages = Sequence[Mapping[str, Any] | Message]


def settings_from_urls(redis_url: str, broker_url: str | None, tenant: str) -> Settings:
    """Return default settings with these URLs. Raises `SettingsError`."""
    return Settings.checked({"redis_url": redis_url, "broker_url": broker_url, "tenant": tenant})


def starting_point(
    keys: ChatKeys, after: int | str | None, reader: str | None, until: str
) -> tuple[Cursor, Transaction[int] | None]:
    """Return a subscription's cursor, and the read of where it begins if only `reader` says that."""
    cursor = Cursor(keys, 0 if after is None else after, until)
    if reader is None:
        return cursor, None
    read = queries.last_read(keys, reader)  # a bad reader id is an error also where `after` is given
    return cursor, read if after is None else None


def request_for(
    dispatcher: Dispatcher | None,
    *,
    prompt: str | None,
    messages: Messages | None,
    model: str | None,
    params: Mapping[str, Any] | None,
    history: bool,
    replaces: str | None,
) -> GenerationRequest:
    """Return the checked request. Raises `InvalidRequest`, or `SettingsError` where the spool cannot enqueue."""
    need_dispatcher(dispatcher)
    return GenerationRequest.checked(
        prompt=prompt, messages=messages, model=model, params=params, history=history, replaces=replaces
    )


def wants_history(settings: Settings, *, prompt: str | None, history: bool | None, replaces: str | None) -> bool:
    """Tell whether the model gets what the log has before them. An edited prompt alone would lack its context."""
    if history is not None:
        return history
    return settings.log.history or (prompt is not None and replaces is not None)


def need_open(closed: threading.Event) -> None:
    """Raise `SpoolClosed` for a spool that was closed."""
    if closed.is_set():
        raise SpoolClosed


def need_dispatcher(dispatcher: Dispatcher | None) -> Dispatcher:
    """Return the dispatcher. Raises `SettingsError` for a spool that has none."""
    if dispatcher is None:
        raise SettingsError("to enqueue, the spool needs a Celery app: Spool(redis, celery_app)")
    return dispatcher
