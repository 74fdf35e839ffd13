"""The states of a generation, and what an enqueue may do in a busy chat: one vocabulary for everybody."""

from __future__ import annotations

from typing import Final, Literal, get_args

EndState = Literal["completed", "stopped", "failed"]
State = Literal["queued", "running"] | EndState
SeenState = State | Literal["stalled", "lost"]
"""What `status` tells: also "stalled", while a running generation shows no sign of life (its lease has ended and no
other attempt has claimed it yet), and "lost", when it failed because its message was lost."""

ENDED: Final[frozenset[str]] = frozenset(get_args(EndState))
ENDING_TYPES: Final[frozenset[str]] = frozenset(f"generation.{state}" for state in ENDED)
"""The types of the events that end a generation."""

Priority = Literal["interactive", "batch"]
PRIORITIES: Final[tuple[Priority, ...]] = get_args(Priority)
"""Whose turn comes first: of batch generations, only every eighth has it while an interactive one waits."""

KnownTurn = Literal["waits", "sent", "runs"]
TURNS: Final[tuple[KnownTurn, ...]] = get_args(KnownTurn)
"""How the index has a generation that has not ended: it waits for its turn, its message is with the broker, it runs."""

OnActive = Literal["reject", "replace", "allow", "queue"]
ON_ACTIVE: Final[tuple[OnActive, ...]] = get_args(OnActive)
"""What `enqueue` does while another generation is active: raise `ChatBusy`, stop that one, run beside it, or
begin when it has ended."""
