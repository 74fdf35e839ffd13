"""What became of a generation, as the apps are told that wait for outcomes, and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic_core import from_json, to_json

from chunkspool.events import UsageEvent
from chunkspool.states import EndState

Until = Literal["forever", "drained"]
"""When a loop over outcomes ends: never, or as soon as there is none to hand out."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a generation ended. There is one for each, and it is handed out until it is acknowledged.

    `id`: of the entry in the tenant's stream. `code` is a failed one's, `stopped_by` and `reason` a stopped one's.
    Times are Unix ms by Redis's clock. `first` and `last`: the seqs between which the chat's log has it. `text`: the
    answer; None where it is longer than `outcome_text_bytes`, or the log was gone: see `log_expired`. `deliveries`: how
    often it was handed out, this time included.
    """

    id: str
    tenant: str
    chat_id: str
    generation_id: str
    request_id: str | None
    owner: str | None
    state: EndState
    code: str | None
    stopped_by: str | None
    reason: str | None
    attempt: int
    model: str | None
    usage: UsageEvent | None
    finish_reason: str | None
    created: int
    started: int | None
    ended: int
    first: int
    last: int
    text: str | None
    log_expired: bool = False
    deliveries: int = 1

    def encode(self) -> bytes:
        """Return what is stored: JSON, without what each delivery has of its own."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name not in ("id", "deliveries", "usage")}
        said = None if self.usage is None else self.usage.model_dump(mode="json")
        return to_json({**fields, "usage": said}, inf_nan_mode="null")

    @classmethod
    def decode(cls, entry_id: str, stored: bytes, deliveries: int) -> Self:
        """Return the outcome that `encode` wrote. What a newer version added is left out."""
        fields: dict[str, Any] = from_json(stored)
        known = {name: value for name, value in fields.items() if name in cls.__slots__}
        usage = known.pop("usage", None)
        told = None if usage is None else UsageEvent.model_validate(usage)
        return cls(**{**known, "id": entry_id, "deliveries": deliveries, "usage": told})


@dataclass(frozen=True, slots=True)
class DeadOutcome:
    """An outcome that a group could not handle: it was set aside at `at` (Unix ms), and is handed out no more.

    `why` is what `set_aside` was told; "" for one that was handed out too often.
    """

    id: str
    group: str
    at: int
    why: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class OutcomeLag:
    """How far a group is behind: outcomes it was never handed, those it has not acknowledged, and the oldest's age.

    `undelivered` is an estimate after an erase. `set_aside`: since when (Unix ms) the group is none any more, because
    what it left unread took more than `outcome_bytes`; None for a group that is there. `lost` is how many it lost.
    """

    tenant: str
    group: str
    undelivered: int = 0
    pending: int = 0
    oldest_seconds: float = 0.0
    set_aside: int | None = None
    lost: int = 0

    @property
    def entries(self) -> int:
        """All that the group has still to acknowledge."""
        return self.undelivered + self.pending
