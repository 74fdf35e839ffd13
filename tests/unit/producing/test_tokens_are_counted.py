"""What a provider says of its tokens is counted, whatever stands for a number, and ends no answer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from chunkspool.errors import InvalidInput
from chunkspool.observer import Observation, TokensUsed
from chunkspool.producing.producer import Producer
from chunkspool.provider import Usage
from chunkspool.settings import Settings


class Producing:
    """A producer whose events go nowhere."""

    def __init__(self) -> None:
        """Make it."""
        self.counted: list[Observation] = []
        self.pace = SimpleNamespace(output_tokens=0)
        buffer = SimpleNamespace(is_full=False, add_event=lambda _: False)
        outbox = SimpleNamespace(buffer=buffer, interruption=None, generation_id="g", pace=self.pace)
        flusher = SimpleNamespace(observer=SimpleNamespace(observe=self.counted.append))
        claim = SimpleNamespace(request=None, restarts=False)
        self.out = Producer(*cast("Any", (outbox, flusher, Settings.checked({}), claim)))


@pytest.mark.parametrize("is_written", [True, False])
def test_the_models_own_count_replaces_the_estimate(is_written: bool) -> None:
    """Whichever way it is said."""
    producing = Producing()
    if is_written:
        producing.out.write(Usage(3, 7))
    else:
        producing.out.usage(3, 7)
    assert producing.out.tally.tokens == producing.pace.output_tokens == 7
    assert producing.counted == [TokensUsed(input=3, output=7, reasoning=0, cached=0)]


@pytest.mark.parametrize("count", ["7.0", "7", 7.0])
def test_what_stands_for_a_number_is_one(count: Any) -> None:
    """The event takes it, so it is counted, too."""
    producing = Producing()
    producing.out.write(Usage(3, count))
    producing.out.usage(3, count)
    assert producing.out.tally.output_tokens == 7
    assert type(producing.out.tally.output_tokens) is int
    with pytest.raises(InvalidInput):
        producing.out.usage(3, cast("Any", "seven"))
    assert producing.out.tally.output_tokens == 7


@pytest.mark.parametrize("count", [None, "5", -1, True, 2.5])
def test_a_strange_count_that_is_for_metrics_only_is_0(count: Any) -> None:
    """A provider of somebody's own may give anything; the answer goes on."""
    producing = Producing()
    producing.out.write(Usage(3, 7, cached_tokens=count, reasoning_tokens=count))
    producing.out.write(Usage(3, 9, cached_tokens=2, reasoning_tokens=1))
    assert producing.counted[-1] == TokensUsed(input=0, output=2, reasoning=1, cached=2)
