"""A policy: the limits of one tenant. Values only."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chunkspool.errors import InvalidInput

Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
Bytes = Annotated[int, Field(ge=0, le=1024**5, strict=True)]


class Policy(BaseModel):
    """The limits of a tenant, of each of its owners, and of each of its chats. 0 allows nothing.

    `ttl` is None where the setting of that name holds; `keep_events` and `keep_bytes` are where a log is kept whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    queued: Count = Field(default=1000, description="generations of a tenant that may wait for a worker")
    running: Count = Field(default=200, description="generations of a tenant that may run")
    per_minute: Count = Field(default=6000, description="requests of a tenant in a minute")
    owner_queued: Count = Field(default=1000, description="generations of one owner that may wait for a worker")
    owner_running: Count = Field(default=200, description="generations of one owner that may run")
    owner_per_minute: Count = Field(default=6000, description="requests of one owner in a minute")
    chat_per_minute: Count = Field(default=6000, description="requests in one chat in a minute")
    active: Count = Field(default=32, description="generations of one chat that may wait or run")
    bytes: Bytes = Field(default=64 * 1024**3, description="bytes of the logs of a tenant, together")
    owner_bytes: Bytes = Field(default=16 * 1024**3, description="bytes of the logs of one owner's chats, together")
    chat_bytes: Bytes = Field(default=256 * 1024**2, description="bytes of a chat's log; a fuller one takes no more")
    keep_events: Count | None = Field(
        default=None, ge=1, description="events of a chat's log that are kept; of more, the oldest answers go"
    )
    keep_bytes: Bytes | None = Field(
        default=None, ge=1, description="bytes of a chat's log that are kept; of more, the oldest answers go"
    )
    pinned: Count = Field(default=0, description="chats of a tenant that may be pinned, so that they never expire")
    request_bytes: Bytes = Field(default=1024 * 1024, description="bytes of one request, encoded")
    streams: Count = Field(default=10_000, description="event streams of a tenant that may be open")
    owner_streams: Count = Field(default=1000, description="event streams of one owner that may be open")
    chat_streams: Count = Field(default=5000, description="event streams of one chat that may be open")
    ttl: float | None = Field(
        default=None, ge=1, le=31_536_000, allow_inf_nan=False, description="seconds that a chat is kept"
    )

    def stored(self) -> dict[str, int]:
        """Return the values as Redis has them: whole numbers, the TTL in milliseconds; without those that are None."""
        values = self.model_dump(exclude_none=True)
        return values | ({} if self.ttl is None else {"ttl": round(self.ttl * 1000)})

    def changed(self, values: dict[str, object]) -> Self:
        """Return this policy with other values. Raises `InvalidInput`, which names the limit and what it takes."""
        try:
            return type(self).model_validate({**self.model_dump(), **values})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"]))
            known = ", ".join(LIMITS)
            why = first["msg"] if name in LIMITS else f"is not a limit; there are {known}"
            raise InvalidInput(f"{name}: {why}") from None

    def with_stored(self, found: dict[str, str]) -> Self:
        """Return this policy with what Redis has; what cannot be read there counts as not set."""
        values: dict[str, object] = {}
        for name, value in found.items():
            if name in LIMITS and value.isdecimal():
                values[name] = int(value) / 1000 if name == "ttl" else int(value)
        try:
            return self.changed(values)
        except InvalidInput:
            return self


LIMITS: Final = tuple(Policy.model_fields)
"""The names of all limits."""
