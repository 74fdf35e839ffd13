"""Every error that chunkspool raises, as one family.

ChunkspoolError
├── InvalidInput (ValueError)
│   ├── InvalidId
│   ├── InvalidRequest
│   │   ├── RequestTooLarge
│   │   └── RequestIdReused
│   ├── EventTooLarge
│   ├── InvalidCursor
│   └── SettingsError
├── ChatNotFound
├── ChatExists             a fork needs an id that nothing has yet
├── GenerationNotFound
├── ChatBusy
├── LimitExceeded          of a tenant, an owner or a chat
├── Refused                a web user may not ask for that
├── ChatContended          the chat kept changing: try again
├── DigestUnfinished       a very long chat could not be read in the time given: try again
├── EnqueueFailed
│   └── BrokerRefused      wrong password, a missing right, an untrusted certificate
├── OutcomeGroupDropped    a group of consumers left too much unread and was set aside
├── CursorExpired
├── CursorAhead
├── CorruptLog
├── StoreError
│   ├── StoreUnavailable   unreachable, or it refuses for now: try again later
│   │   ├── StoreNotReady  a replica, or still loading: a failover may be under way
│   │   └── StoreBusy      too many calls at a time: no connection became free
│   ├── StoreFull          out of memory
│   ├── StoreRefused       wrong password, not a Redis, an untrusted certificate
│   │   └── RightMissing   the ACL of our Redis user lacks a right
│   └── LogRolledBack      acknowledged events are gone
├── Interrupted            a producer must stop writing
│   ├── Fenced
│   ├── Stopped
│   └── Released
├── BufferFull
├── NotClaimed
├── SpoolClosed
├── ServerShuttingDown
├── InternalError          a bug: please report it
├── ExtraMissing (ImportError)  an optional package is not installed
└── ProviderError
    └── ContinuationRefused
"""

from __future__ import annotations

import re
from typing import Any


class ChunkspoolError(Exception):
    """Any error of chunkspool. It can be pickled whatever its arguments are: process pools and Celery do that."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild it from its message and its fields, not by its class's own arguments."""
        return _rebuild, (type(self), self.args, self.__dict__)


class InvalidInput(ChunkspoolError, ValueError):
    """An argument is invalid; nothing was written."""


class InvalidId(InvalidInput):
    """An id has characters, a length or a type that ids may not have."""

    def __init__(self, kind: str, value: object) -> None:
        """`kind` names the argument, `value` is what was passed."""
        self.kind = kind
        self.value = value
        super().__init__(
            f"{kind}={shown(value)} is not a valid id: use 1 to 128 characters of A-Z a-z 0-9 _ . : @ ~ + = - "
            f"(no colon in a tenant) and begin with a letter, a digit, _ or -"
        )


class InvalidRequest(InvalidInput):
    """The prompt, messages, model, params or another argument of a request is invalid."""


class RequestTooLarge(InvalidRequest):
    """The request is larger than `max_request_bytes`."""

    def __init__(self, size: int, limit: int) -> None:
        """Both are in bytes, encoded."""
        self.size = size
        self.limit = limit
        super().__init__(f"the request has {size} bytes and max_request_bytes is {limit}: shorten it")


class RequestIdReused(InvalidRequest):
    """The `request_id` was used for another request: what is repeated must be the same in prompt, model and params."""

    def __init__(self, chat_id: str, request_id: str, generation_id: str) -> None:
        """`generation_id` is the generation that the earlier request made."""
        self.chat_id = chat_id
        self.request_id = request_id
        self.generation_id = generation_id
        super().__init__(
            f"request_id {request_id!r} was used in chat {chat_id!r} for another request (generation {generation_id}): "
            f"repeat that one unchanged, or use a new id"
        )


class EventTooLarge(InvalidInput):
    """An event is larger than `max_event_bytes`: split it, or store it elsewhere and send its address."""

    def __init__(self, size: int, limit: int) -> None:
        """Both are in bytes, encoded."""
        self.size = size
        self.limit = limit
        super().__init__(f"the event has {size} bytes and max_event_bytes is {limit}: split it")


class InvalidCursor(InvalidInput):
    """A cursor is not a whole number of 0 or more."""

    def __init__(self, value: object) -> None:
        """`value` is what was passed."""
        self.value = value
        super().__init__(f"cursor {shown(value)} is invalid: pass the seq of the last event you have, or 0 for all")


class SettingsError(InvalidInput):
    """A setting has an invalid value, or one that is needed is missing."""


class ChatNotFound(ChunkspoolError):
    """Nothing was ever enqueued in this chat, or it was erased, or it expired."""

    def __init__(self, chat_id: str) -> None:
        """`chat_id` is the chat that was asked for."""
        self.chat_id = chat_id
        super().__init__(f"chat {chat_id!r} does not exist: nothing was enqueued in it, it was erased, or it expired")


class ChatExists(ChunkspoolError):
    """There is a chat of this id already, or one whose log has expired is remembered. A fork needs a new id."""

    def __init__(self, chat_id: str) -> None:
        """`chat_id` is the one that was to be made."""
        self.chat_id = chat_id
        super().__init__(f"chat {chat_id!r} exists already: choose another id, or erase it first")


class GenerationNotFound(ChunkspoolError):
    """The chat has no such generation, or no longer has it."""

    def __init__(self, chat_id: str, generation_id: str) -> None:
        """Both ids are those that were asked for."""
        self.chat_id = chat_id
        self.generation_id = generation_id
        super().__init__(f"chat {chat_id!r} has no generation {generation_id!r}, or no longer has it")


class ChatBusy(ChunkspoolError):
    """A generation is active in the chat and `on_active` is "reject"."""

    def __init__(self, chat_id: str, active: tuple[str, ...], count: int | None = None) -> None:
        """`active` are ids of generations that have not ended, of which the first few are kept; `count` is how many."""
        self.chat_id = chat_id
        self.active = active[:_SHOWN_IDS]
        self.count = len(active) if count is None else count
        others = self.count - len(self.active)
        names = ", ".join(self.active) + (f" and {others} more" if others else "")
        super().__init__(
            f"chat {chat_id!r} is busy with generation {names}: wait for it, "
            f'or enqueue with on_active="queue" (begins then), "replace" (stops it) or "allow" (runs beside it)'
        )


class LimitExceeded(ChunkspoolError):
    """A limit of the tenant, the owner or the chat is reached, so nothing was started. See `Policy` for all limits.

    In a producer: the chat's log has reached `chat_bytes`, so the generation ends as failed (`chat_full`).
    """

    def __init__(self, limit: str, message: str, *, retry_after: float | None = None) -> None:
        """`limit` names the limit, for programs.

        `retry_after` is after how many seconds another try may succeed; None where nobody knows.
        """
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(message)


class Refused(ChunkspoolError):
    """What a web user asks for is not theirs to ask for (422). A hook raises it; its text is shown to the user."""


class ChatContended(ChunkspoolError):
    """Other callers changed the chat again and again, so the call gave up. Nothing was done; trying again is safe."""

    def __init__(self, chat_id: str, what: str) -> None:
        """Say `what` could not be done."""
        self.chat_id = chat_id
        super().__init__(f"chat {chat_id!r} changes too fast to {what}: stop its generations first, or try again")


class DigestUnfinished(ChunkspoolError):
    """The chat is too long to be read in the time given. What was read so far is kept as a digest: try again."""

    def __init__(self, chat_id: str, seq: int, last: int) -> None:
        """`seq` is how far it was read, `last` the chat's last seq."""
        self.chat_id = chat_id
        self.seq = seq
        self.last = last
        super().__init__(
            f"chat {chat_id!r} is long and was read up to event {seq} of {last} in the time given: "
            f"try again, it goes on from there"
        )


class EnqueueFailed(ChunkspoolError):
    """The broker did not take the message. The generation was ended; enqueue again when the broker is back."""

    def __init__(self, chat_id: str, generation_id: str, why: str) -> None:
        """`generation_id` is the generation that was ended with `generation.failed`."""
        self.chat_id = chat_id
        self.generation_id = generation_id
        super().__init__(
            f"the broker did not take the message of generation {generation_id} in chat {chat_id!r}; "
            f"check the broker, then enqueue again: {why}"
        )


class BrokerRefused(EnqueueFailed):
    """The broker rejected us, so trying again will not help: a password, a right or a certificate is wrong."""

    def __init__(self, chat_id: str, generation_id: str, why: str, right: str = "") -> None:
        """`right`: the ACL rules to add, if the broker is a Redis whose user lacks them."""
        super().__init__(chat_id, generation_id, why)
        self.right = right
        said = f"the broker rejected the message of generation {generation_id} in chat {chat_id!r}"
        self.args = (f"{said}; trying again will not help: {why}",)


class OutcomeGroupDropped(ChunkspoolError):
    """A group of consumers was set aside, because what it left unread took more than `outcome_bytes`.

    It has lost outcomes; see `AsyncSpool.outcomes(…, again=True)` and the logs, which still have the answers.
    """

    def __init__(self, tenant: str, group: str, at: int, lost: int) -> None:
        """`at` is Unix ms, `lost` how many outcomes the group had not acknowledged."""
        self.tenant = tenant
        self.group = group
        self.at = at
        self.lost = lost
        super().__init__(
            f"group {group!r} of tenant {tenant!r} was set aside: it left {lost} outcomes unread, more than "
            f"outcome_bytes holds; find what it missed in the logs, then begin again with again=True"
        )


class CursorExpired(ChunkspoolError):
    """Events after the cursor are no longer kept (HTTP 410). Take a snapshot, or continue from `first - 1`."""

    def __init__(self, requested: int, first: int, last: int) -> None:
        """`first` and `last` are the seqs that are kept; `first` is `last + 1` when none is."""
        self.requested = requested
        self.first = first
        self.last = last
        kept = f"events {first} to {last} are kept" if first <= last else f"no event up to {last} is kept"
        super().__init__(f"the events after seq {requested} have expired: {kept}; continue from cursor {first - 1}")


class CursorAhead(ChunkspoolError):
    """The cursor is beyond the chat's last event: it belongs to another chat, or the chat was erased and made again."""

    def __init__(self, requested: int, last: int) -> None:
        """`last` is the chat's last seq."""
        self.requested = requested
        self.last = last
        super().__init__(f"cursor {requested} is ahead of the chat, whose last seq is {last}; start again from 0")


class CorruptLog(ChunkspoolError):
    """Redis holds something there that chunkspool did not write. Continue with `after=seq` to read the rest."""

    def __init__(self, seq: int | None, why: str) -> None:
        """`seq`: that of the undecodable event, or None when a whole key is of another type; `why`: what is wrong."""
        self.seq = seq
        self.why = why
        where = "a key of the chat" if seq is None else f"event {seq}"
        super().__init__(f"{where} cannot be read: {why}")


class StoreError(ChunkspoolError):
    """Redis did not do what it was asked."""


class StoreUnavailable(StoreError):
    """Redis cannot be reached, did not answer in time, or refuses for now. Trying again is safe."""


class StoreNotReady(StoreUnavailable):
    """The server is a replica, or still loads its data. During a failover, a new connection may reach another one."""


class StoreBusy(StoreUnavailable):
    """All connections to Redis were in use for too long. Nothing was sent: call less at a time, or try again."""


class StoreFull(StoreError):
    """Redis is out of memory (maxmemory with noeviction). Free some, then try again."""


class StoreRefused(StoreError):
    """Redis rejected the connection or a command, or the server is not a Redis. Trying again will not help."""


class RightMissing(StoreRefused):
    """The ACL of our Redis user lacks a right: somebody must add `right`, such as "+xadd" or "~cs:*"."""

    def __init__(self, message: str, right: str) -> None:
        """`right`: one or more ACL rules, separated by spaces."""
        self.right = right
        super().__init__(message)


class LogRolledBack(StoreError):
    """Redis lost events that it had acknowledged: it was restored from an older copy. The rest cannot follow them."""

    def __init__(self, generation_id: str) -> None:
        """`generation_id` is the generation whose events are gone; it ends with `generation.failed`."""
        self.generation_id = generation_id
        super().__init__(f"Redis lost events of generation {generation_id} that it had acknowledged: enqueue it again")


class Interrupted(ChunkspoolError):
    """The generation may no longer be written by this producer."""


class Fenced(Interrupted):
    """A newer attempt has claimed the generation, or it was ended or erased: close the model's connection."""


class Stopped(Interrupted):
    """A user stopped the generation: close the model's connection."""


class Released(Interrupted):
    """The process is about to end and gave the generation up for another one: close the model's connection."""

    def __init__(self, message: str, *, counts: bool = False) -> None:
        """Say whether the attempt `counts` towards `max_attempts`."""
        self.counts = counts
        super().__init__(message)


class BufferFull(ChunkspoolError):
    """The producer's buffer is full because Redis does not keep up: write less, or raise `buffer_bytes`."""


class NotClaimed(ChunkspoolError):
    """The generation cannot be claimed: it has ended, another attempt is alive, or it waits for others of its chat."""

    def __init__(self, generation_id: str, outcome: str) -> None:
        """`outcome` is what `claim` said: "ended", "held", "stopped", "failed" or "behind"."""
        self.generation_id = generation_id
        self.outcome = outcome
        super().__init__(f"generation {generation_id} cannot be claimed: {outcome}")


class SpoolClosed(ChunkspoolError):
    """The spool was closed, so it does nothing more: make a new one."""

    def __init__(self) -> None:
        """There is nothing more to say."""
        super().__init__("the spool was closed: make a new one")


class ServerShuttingDown(ChunkspoolError):
    """The web server is about to exit. Another one, or this one after its restart, answers the same request."""

    def __init__(self) -> None:
        """There is nothing more to say."""
        super().__init__("the server is shutting down: try again")


class InternalError(ChunkspoolError):
    """Something inside chunkspool failed unexpectedly. It is a bug: please report it with the log."""


class ExtraMissing(ChunkspoolError, ImportError):
    """A package is not installed that only an extra of chunkspool brings: install that extra."""

    def __init__(self, extra: str, package: str) -> None:
        """`extra` is the extra's name, `package` the package that was not found."""
        self.extra = extra
        self.package = package
        super().__init__(f"{package} is not installed: pip install 'chunkspool[{extra}]'")


class ProviderError(ChunkspoolError):
    """The model's provider failed. It becomes `generation.failed` with these three fields."""

    def __init__(self, code: str, message: str, *, retryable: bool) -> None:
        """`code` is for programs, `message` is for people, `retryable`: asking again may help."""
        self.code = code
        self.message = message
        self.retryable = retryable
        super().__init__(f"{code}: {message}")


class ContinuationRefused(ProviderError):
    """The model cannot continue a text that is already there; asked without it, it may answer."""


_SHOWN = 60
_SHOWN_IDS = 5


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
    return re.sub(r"([?&]\w*password=)[^&\s]*", r"\1***", text)


def _rebuild(kind: type[ChunkspoolError], args: tuple[Any, ...], fields: dict[str, Any]) -> ChunkspoolError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error
