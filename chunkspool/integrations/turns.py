"""What the turns of one agent have come to: tokens paid for, and why the last turn ended."""

from __future__ import annotations

from chunkspool.integrations.tool_results import ToolPairs
from chunkspool.provider import Delta, Finish, Usage
from chunkspool.tasks.providers.finish_reasons import finish_of

INTERRUPT = "interrupt"
"""The finish reason of an agent that waits for a person."""


class UsageSum:
    """The tokens of all turns so far. Readers show the newest usage, so each one that is said is the sum."""

    def __init__(self, paid: Usage | None = None) -> None:
        """`paid` is what the generation had cost before."""
        self._sum = paid or Usage(0, 0)
        self._said = self._sum

    def add(self, input_tokens: int, output_tokens: int) -> None:
        """Add what a turn has cost, or a part of it."""
        self.set(self._sum.input_tokens + input_tokens, self._sum.output_tokens + output_tokens)

    def set(self, input_tokens: int, output_tokens: int) -> None:
        """Take a sum that somebody else has counted."""
        self._sum = Usage(input_tokens, output_tokens)

    def take(self) -> list[Delta]:
        """Return the sum, unless it was said before."""
        if self._sum == self._said:
            return []
        self._said = self._sum
        return [self._sum]


def finish_after(reason: str, pairs: ToolPairs) -> Finish:
    """Return the finish that the last turn's word means. Raises `ProviderError` if it means a failure.

    An agent that has run all its tools has stopped, though the model's last word was to call them.
    """
    finish = finish_of(reason) if reason else Finish("stop")
    return Finish("stop") if finish.reason == "tool_calls" and pairs.all_answered else finish
