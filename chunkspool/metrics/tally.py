"""What goes into a histogram, gathered: to put in one value after the other costs ten times as much."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Histogram


class Tally:
    """The values of one histogram since they were last put into it."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        """`histogram` has no labels."""
        self._histogram = histogram
        self._bounds: list[float] = histogram._upper_bounds  # noqa: SLF001 - there is no other way to add many at once
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Take a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_all(self, values: Mapping[int, int] | Mapping[float, int]) -> None:
        """Take each value as often as it says."""
        for value, count in values.items():
            self._counts[bisect_left(self._bounds, value)] += count
            self._sum += value * count

    def add_each(self, values: Sequence[float]) -> None:
        """Take values. Attempts that were written together before have the same gaps."""
        self.add_all(Counter(values))

    def put(self) -> None:
        """Put them into the histogram, and begin again."""
        for i, count in enumerate(self._counts):
            if count:
                self._histogram._buckets[i].inc(count)  # noqa: SLF001 - as above
                self._counts[i] = 0
        if self._sum:
            self._histogram._sum.inc(self._sum)  # noqa: SLF001 - as above
        self._sum = 0.0

    def forget(self) -> None:
        """Begin again without them."""
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0
