"""Names the rights that the Redis users of worker and Flower lack: at their start, and when the broker refuses one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from celery import current_app, signals
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from chunkspool import Settings
from chunkspool.errors import ChunkspoolError
from chunkspool.spool.refusals import refused_right
from chunkspool.store.client import connect
from chunkspool.store.probes import commands_probes, events_probes, log_probes, queue_probes
from chunkspool.store.rights import Probe, missing_rights
from chunkspool.store.translate import translate
from chunkspool.tasks.equipment import Equipment, equipment_of
from chunkspool.urls.broker_url import CeleryBroker
from chunkspool.urls.redis_url import parse_redis_url

logger = get_logger(__name__)

PAUSE = 2.0
"""Seconds before the broker is tried again after a refusal: nothing changes until somebody changes the ACL."""


def install_in_worker() -> None:
    """Say what is missing in words of our own, when the broker refuses something."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(is_not_told_already)


def install_in_flower() -> None:
    """Check Flower's rights before it connects."""
    signals.import_modules.connect(check_flower)


def check_worker(equipment: Equipment) -> None:
    """Refuse to start without the rights of a worker."""
    _exit_if(missing_of_worker(equipment.settings, broker=equipment.standalone))


def check_flower(**_: object) -> None:
    """Refuse to start Flower without its rights. It sends no signal of its own, but imports the app's modules."""
    if "flower" in sys.argv:
        _exit_if(missing_of_flower(Settings.from_env()))


def missing_of_worker(settings: Settings, *, broker: bool = True) -> list[str]:
    """Return a sentence for each server whose user lacks a worker's rights; nothing for one that is away.

    `broker`: the settings' broker is the worker's. That of an app of your own may be anything.
    """
    if not broker:
        return _describe([(settings.log.redis_url, log_probes(settings))])
    database = _redis_of(settings)
    of_broker = queue_probes(settings, database) + commands_probes(database) + events_probes(database, worker=True)
    asked = [(settings.log.redis_url, log_probes(settings))] + ([(settings.broker, of_broker)] if of_broker else [])
    return _describe(asked)


def missing_of_flower(settings: Settings) -> list[str]:
    """Return the same for Flower, which uses the broker only."""
    broker = _redis_of(settings)
    probes = (
        queue_probes(settings, broker, worker=False) + commands_probes(broker, worker=False) + events_probes(broker)
    )
    return _describe([(settings.broker, probes)] if probes else [])


def tell_refusal(error: BaseException) -> bool:
    """Tell whether the broker has refused a right; if so, name all that are missing, once, and wait a moment."""
    refused = refused_right(error)
    if refused is None:
        return False
    equipment = equipment_of(current_app)
    missing = missing_of_worker(equipment.settings, broker=equipment.standalone)
    for line in missing or [str(translate(refused))]:
        logger.error(line)
    time.sleep(PAUSE)
    return True


def is_not_told_already(record: logging.LogRecord) -> bool:
    """Filter Celery's record of a connection that was lost, or is not to be had, because of a missing right."""
    values = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(value, BaseException) and refused_right(value) for value in values)


def _redis_of(settings: Settings) -> int | None:
    """Return the number of the broker's database, None for a broker that is no Redis."""
    broker = CeleryBroker.from_url(settings.broker)
    return parse_redis_url(settings.broker).db if broker.is_redis else None


def _describe(asked: Sequence[tuple[str, tuple[Probe, ...]]]) -> list[str]:
    by_url: dict[str, tuple[Probe, ...]] = {}
    for url, probes in asked:
        by_url[url] = by_url.get(url, ()) + probes
    return [line for url, probes in by_url.items() if (line := _describe_one(url, probes))]


def _describe_one(url: str, probes: tuple[Probe, ...]) -> str:
    try:
        with closing(connect(url)) as client:
            missing = missing_rights(client, probes)
    except (RedisError, OSError, ChunkspoolError) as error:
        return _describe_failure(error)
    if not missing:
        return ""
    user = parse_redis_url(url).username or "default"
    return f"the Redis user {user!r} lacks rights; write {' '.join(missing)} into its ACL (docs/how-to/run/security.md)"


def _describe_failure(error: Exception) -> str:
    """Return nothing: Celery itself says why it cannot connect, and goes on trying."""
    logger.debug("the rights were not checked: %s", error)
    return ""


def _exit_if(lines: list[str]) -> None:
    if lines:
        sys.exit(f"chunkspool: {'; '.join(lines)}")
