"""Tells a missing extra from a broken package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chunkspool.errors import ExtraMissing


@contextmanager
def needs_extra(extra: str, *packages: str) -> Iterator[None]:
    """Import one of `packages` inside. Raises `ExtraMissing` if it is not installed; other errors stay as they are."""
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package not in packages:
            raise
        raise ExtraMissing(extra, package) from missing
