"""Every error that chunkspool raises, as one family.

ChunkspoolError
├── InvalidInput (ValueError)
│   ├── InvalidId
│   ├── InvalidRequest
│   │   └── RequestTooLarge
│   ├── InvalidCursor
│   └── SettingsError
├── ChatNotFound
├── GenerationNotFound
├── ChatBusy
├── EnqueueFailed
├── CursorExpired
├── CursorAhead
├── CorruptLog
├── StoreError
│   ├── StoreUnavailable   away: try again later
│   ├── StoreFull          out of memory
│   └── StoreRefused       wrong password, not a Redis, no permission
├── Interrupted            a producer must stop writing
│   ├── Fenced
│   ├── Stopped
│   └── HandedOver
├── NotClaimed
└── ProviderError
    └── ContinuationRefused
"""

from __future__ import annotations

import re
from typing import Any


class ChunkspoolError(Exception):
    """Any error of chunkspool. It can be pickled, whatever its class is made from: process pools and Celery do that."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild it from its message and its fields, not by its class's own arguments."""
        return _rebuilt, (type(self), self.args, self.__dict__)


class InvalidInput(ChunkspoolError, ValueError):
    """Something passed in cannot be used; nothing was written."""


class InvalidId(InvalidInput):
    """An id has characters, a length or a type that ids may not have."""

    def __init__(self, kind: str, value: object) -> None:
        """`kind` names the argument, `value` is what was passed."""
        self.kind = kind
        self.value = value
        super().__init__(
            f"{kind}={shown(value)} is not an id: use 1 to 128 characters of A-Z a-z 0-9 _ . : @ ~ + = - "
            f"(a tenant has no colon), the first one a letter, a digit or _"
        )


class InvalidRequest(InvalidInput):
    """A prompt, messages, a model or params that no generation can be made from."""


class RequestTooLarge(InvalidRequest):
    """The prompt or the messages are more than `max_request_bytes`."""

    def __init__(self, size: int, limit: int) -> None:
        """Both are in bytes, encoded."""
        self.size = size
        self.limit = limit
        super().__init__(f"the request has {size} bytes; max_request_bytes is {limit}: shorten it")


class InvalidCursor(InvalidInput):
    """A cursor is not a whole number from 0 up."""

    def __init__(self, value: object) -> None:
        """`value` is what was passed."""
        self.value = value
        super().__init__(f"cursor {shown(value)}: pass the seq of the last event you have, or 0 for all of them")


class SettingsError(InvalidInput):
    """A setting has a value that cannot be used."""


class ChatNotFound(ChunkspoolError):
    """Nothing was ever enqueued in this chat, or it was erased, or it expired."""

    def __init__(self, chat_id: str) -> None:
        """`chat_id` is the chat that was asked for."""
        self.chat_id = chat_id
        super().__init__(f"chat {chat_id!r} does not exist: nothing was enqueued in it, it was erased, or it expired")


class GenerationNotFound(ChunkspoolError):
    """The chat has no such generation (any more)."""

    def __init__(self, chat_id: str, generation_id: str) -> None:
        """Both ids are those that were asked for."""
        self.chat_id = chat_id
        self.generation_id = generation_id
        super().__init__(f"generation {generation_id!r} is not (or no longer) in chat {chat_id!r}")


class ChatBusy(ChunkspoolError):
    """A generation is active in the chat and `on_active` is "reject"."""

    def __init__(self, chat_id: str, active: tuple[str, ...]) -> None:
        """`active` are the ids of the generations that have not ended."""
        self.chat_id = chat_id
        self.active = active
        super().__init__(
            f"chat {chat_id!r} is busy with generation {', '.join(active)}: wait for it, "
            f'or enqueue with on_active="replace" (stops it) or on_active="allow"'
        )


class EnqueueFailed(ChunkspoolError):
    """The broker did not take the message. The generation was ended; enqueue again when the broker is back."""

    def __init__(self, chat_id: str, generation_id: str, why: str) -> None:
        """`generation_id` is the generation that was ended with `generation.failed`."""
        self.chat_id = chat_id
        self.generation_id = generation_id
        super().__init__(
            f"generation {generation_id} of chat {chat_id!r} was not handed to a worker; "
            f"check the broker, then enqueue again: {why}"
        )


class CursorExpired(ChunkspoolError):
    """Events after the cursor are no longer kept (HTTP 410). Take a snapshot, or go on from `first - 1`."""

    def __init__(self, requested: int, first: int, last: int) -> None:
        """`first` and `last` are the seqs that are kept; `first` is `last + 1` when none is."""
        self.requested = requested
        self.first = first
        self.last = last
        kept = f"kept are {first} to {last}" if first <= last else f"nothing up to {last} is kept"
        super().__init__(f"the events after seq {requested} have expired: {kept}; go on from cursor {first - 1}")


class CursorAhead(ChunkspoolError):
    """The cursor is beyond the chat's last event: it belongs to another chat, or the chat was made anew."""

    def __init__(self, requested: int, last: int) -> None:
        """`last` is the chat's last seq."""
        self.requested = requested
        self.last = last
        super().__init__(f"cursor {requested} is ahead of the chat, whose last seq is {last}; start again from 0")


class CorruptLog(ChunkspoolError):
    """What stands in Redis is not an event that chunkspool wrote. Go on with `after=seq` to read the rest."""

    def __init__(self, seq: int | None, why: str) -> None:
        """`seq` is the undecodable event's, or None when a whole key is of another type; `why` says what is wrong."""
        self.seq = seq
        self.why = why
        where = "a key of the chat" if seq is None else f"event {seq}"
        super().__init__(f"{where} cannot be read: {why}")


class StoreError(ChunkspoolError):
    """Redis did not do what it was asked."""


class StoreUnavailable(StoreError):
    """Redis did not answer in time. Trying again is safe."""


class StoreFull(StoreError):
    """Redis is out of memory (maxmemory with noeviction). Free some, then try again."""


class StoreRefused(StoreError):
    """The server refuses us: wrong password, no permission, or it is not a Redis. Trying again will not help."""


class Interrupted(ChunkspoolError):
    """The generation is no longer this producer's to write."""


class Fenced(Interrupted):
    """A newer attempt has claimed the generation, or it was ended or erased: close the model's connection."""


class Stopped(Interrupted):
    """A user stopped the generation: close the model's connection."""


class HandedOver(Interrupted):
    """Another process goes on with the generation, because this one is about to end: close the model's connection."""


class NotClaimed(ChunkspoolError):
    """The generation cannot be claimed: it has ended, or another attempt of it is alive."""

    def __init__(self, generation_id: str, outcome: str) -> None:
        """`outcome` is what `claim` said: "ended", "held", "stopped" or "failed"."""
        self.generation_id = generation_id
        self.outcome = outcome
        super().__init__(f"generation {generation_id} cannot be claimed: {outcome}")


class ProviderError(ChunkspoolError):
    """The model's provider failed. It becomes `generation.failed` with these three fields."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        """`code` is for programs, `message` is for people, `retryable`: asking again may help."""
        self.code = code
        self.message = message
        self.retryable = retryable
        super().__init__(f"{code}: {message}")


class ContinuationRefused(ProviderError):
    """The model cannot go on from a text that is already there; asked anew, it may answer."""


_SHOWN = 60


def shown(value: object) -> str:
    """Return `value` as it is quoted in a message: never long, whatever was passed in."""
    try:
        text = repr(value)
    except ValueError:  # Python does not spell numbers of thousands of digits
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def without_password(text: str) -> str:
    """Return `text` fit for a message: the passwords of the URLs in it are replaced by ***."""
    # Up to the last @: a password in which / or @ was left unescaped is one all the same.
    text = re.sub(r"(://[^:/@\s]*:)\S*(@)", r"\1***\2", text)
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


def _rebuilt(kind: type[ChunkspoolError], args: tuple[Any, ...], fields: dict[str, Any]) -> ChunkspoolError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
