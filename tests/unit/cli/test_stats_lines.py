"""`chunkspool stats` for people: plain words, units, and nothing that commands the terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chunkspool.cli.stats_lines import size, stats_lines
from chunkspool.policy import Policy
from chunkspool.results import Stats, TenantMemory

FULL = Stats(
    at=1_800_000_000_000,
    queue="chunkspool",
    queued={"interactive": 1200, "batch": 3},
    running=7,
    oldest_queued=95.0,
    generations={"waits": 1197, "sent": 6, "runs": 7},
    chats=41,
    tenants=2,
    limits=Policy(),
    memory=TenantMemory({"acme": 5 * 1024**2, "default": 900}, 0, 12),
    used_memory=220 * 1024**2,
    max_memory=512 * 1024**2,
)


def test_everything_is_told() -> None:
    """One row for each thing, with its unit."""
    assert stats_lines(FULL, "default") == [
        "queue      chunkspool",
        "queued     1,200 interactive, 3 batch",
        "           1,197 wait for their turn, 6 are with the broker",
        "oldest     queued for 2 min",
        "running    7",
        "chats      41 of 2 tenants",
        "redis      220.0 MB of 512.0 MB used (43%)",
        "memory     about, by tenant; 12 chats measured",
        "  acme     5.0 MB",
        "  default  900 bytes",
        "limits     of default: queued 1,000, running 200, per_minute 6,000, bytes 64.0 GB",
    ]


def test_what_is_not_there_takes_no_row() -> None:
    """Nothing queued has no oldest; no chats have no memory; without maxmemory there is no share."""
    empty = replace(
        FULL, queued={"interactive": 0, "batch": 0}, oldest_queued=None, memory=TenantMemory({}, 0, 0), max_memory=0
    )
    lines = stats_lines(empty, "default")
    assert "redis    220.0 MB used, no maxmemory" in lines
    assert not [line for line in lines if line.startswith(("oldest", "memory", " "))]


def test_what_is_not_known_says_why() -> None:
    """In its row."""
    unknown = {"used_memory": "may not ask", "max_memory": "may not ask", "memory": "may not measure"}
    lines = stats_lines(replace(FULL, memory=None, used_memory=None, max_memory=None, unknown=unknown), "default")
    assert "redis    not known: may not ask" in lines
    assert "memory   not known: may not measure" in lines


def test_other_tenants_are_one_row() -> None:
    """However many they are."""
    lines = stats_lines(replace(FULL, memory=TenantMemory({"acme": 1}, 2048, 1)), "default")
    assert "  all others  2.0 kB" in lines
    assert "memory        about, by tenant; 1 chat measured" in lines


def test_a_queue_cannot_command_the_terminal() -> None:
    """Its name is shown as it is."""
    assert "\x1b" not in "".join(stats_lines(replace(FULL, queue="a\x1b[2Jb\nc"), "default"))


@pytest.mark.parametrize(
    ("number", "shown"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 kB"), (3 * 1024**4, "3.0 TB")]
)
def test_sizes_have_units(number: int, shown: str) -> None:
    """The largest that gives at least one."""
    assert size(number) == shown
