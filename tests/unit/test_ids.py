"""Generation ids are version 7 UUIDs that sort by creation time, across processes."""

from __future__ import annotations

import time
import uuid

import pytest

from chunkspool import ids
from chunkspool.ids import checked_id, new_generation_id


def test_an_id_is_a_uuid_of_version_7() -> None:
    """RFC 9562: the timestamp is in Unix milliseconds, and the id passes our own check."""
    before = time.time_ns() // 1_000_000
    made = [new_generation_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    for one in made:
        parsed = uuid.UUID(one)
        assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
        assert before <= parsed.int >> 80 <= after
        assert checked_id("generation_id", one) == one


def test_ids_sort_by_their_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their text form sorts by time, too: an index by id is an index by time."""
    clock = iter(range(1_700_000_000_000, 1_700_000_001_000))
    monkeypatch.setattr(ids.time, "time_ns", lambda: next(clock) * 1_000_000)
    made = [new_generation_id() for _ in range(1000)]
    assert made == sorted(made)


def test_ids_of_one_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """74 bits are random, so two processes do not create the same id."""
    monkeypatch.setattr(ids.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    made = {new_generation_id() for _ in range(10_000)}
    assert len(made) == 10_000
    assert {uuid.UUID(one).int >> 80 for one in made} == {1_700_000_000_000}
