"""What a worker of generations tells of itself when it is asked: its version and its harmless settings, no secret."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, Final, Self

from chunkspool.settings import Settings
from chunkspool.urls.broker_url import CeleryBroker
from chunkspool.urls.redis_url import parse_redis_url, spell_place

COMMAND: Final = "chunkspool_report"
"""The name of Celery's remote command."""
_GROUPS: Final = ("log", "worker", "provider", "limits")
_SECRET: Final = ("key", "url", "secret", "password")
"""Settings with such a word in their names are never told, not even as a part of the digest."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What is told. `logs` and `broker` are addresses, without user and password."""

    chunkspool: str
    python: str
    celery: str
    logs: str
    broker: str
    settings: Mapping[str, Any]
    digest: str
    """Of all of these settings: equal ones need not be compared one by one."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what this process has to tell."""
        told = harmless(settings)
        return cls(
            chunkspool=version("chunkspool"),
            python=platform.python_version(),
            celery=version("celery"),
            logs=address_of(settings.log.redis_url),
            broker=address_of(settings.broker),
            settings=told,
            digest=hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16],
        )

    def as_reply(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_reply(cls, reply: Any) -> Self | None:
        """Return what `as_reply` was made of; None for a worker of another version, which says something else."""
        try:
            return cls(**{name: reply[name] for name in cls.__dataclass_fields__})
        except (TypeError, KeyError):
            return None


def harmless(settings: Settings) -> dict[str, Any]:
    """Return the settings that concern a worker, by their names, without whatever may hold a secret."""
    values = settings.model_dump(mode="json", include=set(_GROUPS))
    named = {name: value for group in _GROUPS for name, value in values[group].items()}
    return {name: value for name, value in named.items() if not any(word in name for word in _SECRET)}


def address_of(url: str) -> str:
    """Return where a server is, without who we are there; of a broker that is no Redis, only what it is."""
    if not CeleryBroker.from_url(url).is_redis:
        return url.partition(":")[0]
    return spell_place(parse_redis_url(url))
