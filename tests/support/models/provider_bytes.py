"""What model servers send, as bytes: a table of bodies, each with the text, ending and reasoning that are right.

The bodies come from public bug reports about model servers and gateways, and from their neighbours. A body is a list of
pieces as they arrive. `ending` begins with "=" if it is that of another case, and is null if either may be right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chunkspool.provider import Delta, Reasoning, Text, ToolCall

_TABLE = Path(__file__).with_name("provider_bytes.json")


@dataclass(frozen=True, slots=True)
class Body:
    """A body and what is right for it."""

    case: str
    pieces: tuple[bytes, ...]
    text: str
    ending: str | None
    reasoning: str


@dataclass(frozen=True, slots=True)
class Told:
    """What readers are told. Tool calls are part of the text: `<name arguments>`."""

    text: str
    reasoning: str

    @classmethod
    def by(cls, deltas: list[Delta]) -> Self:
        """Return what these deltas tell."""
        reasoning = "".join(delta.text for delta in deltas if isinstance(delta, Reasoning))
        return cls("".join(map(_text_of, deltas)), reasoning)


def _text_of(delta: Delta) -> str:
    if isinstance(delta, ToolCall):
        return f"<{delta.name} {delta.arguments}>"
    return delta.text if isinstance(delta, Text) else ""


def _bodies() -> list[Body]:
    rows = json.loads(_TABLE.read_text())
    endings = {row["case"]: row["ending"] for row in rows}
    return [
        Body(
            row["case"],
            tuple(piece.encode() for piece in row["body"]),
            row["text"],
            endings[row["ending"][1:]] if (row["ending"] or "").startswith("=") else row["ending"],
            row["reasoning"] or "",
        )
        for row in rows
    ]


BODIES = _bodies()
