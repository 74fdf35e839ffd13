"""What goes into a histogram, gathered: to put in one value after the other costs ten times as much."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from typing import Final

from prometheus_client import Histogram

_FEW: Final = 8


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

    def add_all(self, values: Collection[float]) -> None:
        """Take some values. Where there are many, they are mostly the same ones: sizes of events."""
        bounds, counts = self._bounds, self._counts
        for value, count in Counter(values).items() if len(values) > _FEW else ((value, 1) for value in values):
            counts[bisect_left(bounds, value)] += count
        self._sum += sum(values)

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
