"""Make spools for tests: short lease, short pauses."""

from __future__ import annotations

from chunkspool import Settings, Spool
from chunkspool.spool import AsyncSpool


def settings_for(url: str, **values: object) -> Settings:
    """Return the settings of a test; `values` go before its defaults."""
    return Settings.checked({"redis_url": url, "ttl": 600, "write_timeout": 10, "flush_interval": 0.002, **values})


def spool_for(url: str, **values: object) -> Spool:
    """Return a spool that the caller closes."""
    return Spool.from_settings(settings_for(url, **values))


def async_spool_for(url: str, **values: object) -> AsyncSpool:
    """Return a spool that the caller closes."""
    return AsyncSpool.from_settings(settings_for(url, **values))
