"""The changelog has an entry for each version, the newest first, and one for the version that is being built."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def headings() -> list[tuple[str, str]]:
    """Return the versions and what stands behind them."""
    lines = re.findall(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    pairs = [line.partition(" - ") for line in lines]
    return [(version, day) for version, _, day in pairs]


def numbers_of(version: str) -> tuple[int, ...]:
    """Return a version's numbers."""
    return tuple(int(part) for part in version.split("."))


def test_the_newest_entry_is_that_of_the_version() -> None:
    """The version in pyproject.toml is the first heading."""
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    assert headings()[0][0] == version


def test_entries_are_dated_and_sorted() -> None:
    """Each has a day, but for the newest, which may be unreleased; no version comes twice."""
    found = headings()
    days = [day for place, (_, day) in enumerate(found) if place or day != "unreleased"]
    assert [date.fromisoformat(day).isoformat() for day in days] == days
    versions = [numbers_of(version) for version, _ in found]
    assert versions == sorted(set(versions), reverse=True)
