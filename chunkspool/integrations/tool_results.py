"""Pairs tool calls with their results by id, over all turns of one generation, and bounds what a result may hold."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json, to_json

from chunkspool.provider import ToolCall, ToolResult
from chunkspool.tasks.providers.failures import Code, failure

MAX_CALLS = 1000
"""Tool calls of one generation. An agent that calls more goes round in circles."""
MAX_OUTPUT = 64 * 1024
"""Bytes of a result, as JSON, that readers get. The model itself gets all of it, from its framework."""


class ToolPairs:
    """The calls of one generation, of which each has an id of its own, and at most one result."""

    def __init__(self) -> None:
        """No tool has been called."""
        self._ids: set[str] = set()
        self._waiting: defaultdict[str, deque[str]] = defaultdict(deque)

    @property
    def all_answered(self) -> bool:
        """Whether there were calls, and each of them has its result."""
        return bool(self._ids) and not self._waiting

    def call(self, call: ToolCall) -> ToolCall:
        """Return the call, with another id if an earlier one has the same. Raises `ProviderError` for endless calls."""
        if len(self._ids) >= MAX_CALLS:
            raise failure(Code.AGENT_LIMIT, f"{MAX_CALLS} tool calls")
        # Some models begin to count anew in every turn, and tests' models have one id for all calls.
        unique = next(one for one in _numbered(call.id) if one not in self._ids)
        self._ids.add(unique)
        self._waiting[call.id].append(unique)
        return ToolCall(unique, call.name, call.arguments)

    def result(self, of_call: str, output: object) -> ToolResult | None:
        """Return the result for the oldest unanswered call of this id; None if no reader has seen such a call."""
        waiting = self._waiting.get(of_call)
        if not waiting:
            return None
        unique = waiting.popleft()
        if not waiting:
            del self._waiting[of_call]
        return ToolResult(unique, bounded_output(output))


def bounded_output(output: object) -> Any:
    """Return `output` as a JSON value of at most `MAX_OUTPUT` bytes; a longer one becomes a text that is cut."""
    try:
        encoded = to_json(output, fallback=str, bytes_mode="base64", inf_nan_mode="null")
        if len(encoded) <= MAX_OUTPUT:
            return from_json(encoded)
    except (ValueError, RecursionError):
        # Halves of surrogate pairs, numbers of thousands of digits, circles.
        encoded = b""
    text = output if isinstance(output, str) else encoded.decode() or f"({type(output).__name__})"
    shown = text[:MAX_OUTPUT].encode(errors="replace").decode()
    while (size := len(to_json(shown))) > MAX_OUTPUT:
        shown = shown[: len(shown) * MAX_OUTPUT // size]
    return shown if len(shown) == len(text) else f"{shown} … (cut: it has {len(text)} characters)"


def _numbered(name: str) -> Iterator[str]:
    """Yield the name, and then the name with a number behind it."""
    given, number = name or "call", 2
    yield given
    while True:
        yield f"{given}_{number}"
        number += 1
