"""What is told of a generation that a script has ended: times that are known, and no others."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from chunkspool.effects import Tell
from chunkspool.errors import NotClaimed
from chunkspool.observer import GenerationEnded
from chunkspool.operations import claim, endings
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.keys import ChatKeys
from chunkspool.store.scripts import Ages, ClaimReply


@pytest.mark.parametrize(("asked", "at_once", "later"), [(None, 0.0, None), (4.0, 4.0, 4.0)])
def test_an_unknown_time_is_none_unless_the_request_itself_has_ended_it(
    asked: float | None, at_once: float, later: float | None
) -> None:
    """An earlier version has not stored when a stop was asked: a worker that finds it cannot say how long it took."""
    ages = Ages(9.0, asked)
    assert endings.tell_stopped(ages).observation == GenerationEnded("stopped", seconds=9.0, stop_seconds=at_once)
    assert endings.tell_found_stopped(ages).observation == GenerationEnded("stopped", seconds=9.0, stop_seconds=later)


def test_a_claim_that_finds_an_old_stop_does_not_say_how_long_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim has not asked for it."""

    def reply(*_: object, **__: object) -> Generator[Any, Any, ClaimReply]:
        yield from ()
        return ClaimReply("stopped", status="stopped", ages=Ages(9.0))

    monkeypatch.setattr(scripts, "claim", reply)
    told = []
    with pytest.raises(NotClaimed):
        for effect in claim.claim(ChatKeys("t", "c"), "g" * 16, Settings.checked({}), 0, leaving=lambda: False):
            told.append(effect)  # noqa: PERF402 - extend() would keep none when it raises
    assert [one.observation for one in told if isinstance(one, Tell)] == [GenerationEnded("stopped", seconds=9.0)]
