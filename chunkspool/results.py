"""What `Spool` tells of a chat: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import JsonValue

from chunkspool.conversation import Turn, conversation
from chunkspool.errors import ChunkspoolError
from chunkspool.fold import Answer
from chunkspool.ids import GenerationId
from chunkspool.outcomes import OutcomeLag
from chunkspool.policy import Policy
from chunkspool.states import KnownTurn, Priority, SeenState


@dataclass(frozen=True, slots=True)
class Generation:
    """What `enqueue` returns. `after` is the cursor before the generation's first event."""

    generation_id: GenerationId
    chat_id: str
    after: int


@dataclass(frozen=True, slots=True)
class GenerationStatus:
    """How one generation stands. Times are Unix ms by Redis's clock; None where it has not happened.

    `lease_until` is when another attempt may claim it. `stop_asked`: a stop waits for its worker to hear of it. While
    it waits for its turn, about `ahead` others have theirs before it, and it comes in about `wait` seconds; None where
    that is not known.
    """

    generation_id: GenerationId
    state: SeenState
    attempt: int
    after: int
    created: int
    started: int | None
    ended: int | None
    lease_until: int | None
    stop_asked: bool
    owner: str | None
    ahead: int | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class ChatStatus:
    """How a chat stands: the seqs that are kept (`first` is `last + 1` when none is) and generations, oldest first.

    `active` are all that have not ended. `now` is the time, in Unix ms by Redis's clock, at which it was asked.
    `before` is what to pass as `before` to get the generations in front of these; None where there are none.
    `pinned`: it is kept for good. `ttl`: its own, in seconds, None where it has that of any chat of its tenant.
    `expires`: when its log does as it stands (Unix ms), None where nothing is kept; of a pinned one that is renewed.
    """

    chat_id: str
    first: int
    last: int
    active: tuple[str, ...]
    generations: tuple[GenerationStatus, ...]
    now: int
    before: str | None = None
    pinned: bool = False
    ttl: float | None = None
    expires: int | None = None


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A chat of a list. Times are Unix ms by Redis's clock: of the newest question, and of the log's first event.

    `newest` is the generation that was enqueued last, None where all have expired; `active` are those that have not
    ended. `last` is the newest seq: whoever has read up to less has not read all. `pinned`: it is kept for good.
    """

    chat_id: str
    title: str | None
    newest: GenerationStatus | None
    active: tuple[str, ...]
    last: int
    created: int
    asked: int
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class ChatPage:
    """Some chats at the time `now` (Unix ms, Redis's clock), the one that was asked last first.

    `before` asks for the chats after these; None at the end. `failed` are chats of the page that cannot be read, each
    with its error: their keys are another program's, say.
    """

    chats: tuple[ChatSummary, ...]
    now: int
    before: str | None = None
    failed: tuple[tuple[str, ChunkspoolError], ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """A generation that waits for its turn: about `ahead` others have theirs before it, and it comes in `wait` seconds.

    `wait` is an estimate by the pace so far; None where there was none.
    """

    generation_id: GenerationId
    ahead: int
    wait: float | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The chat's answers as they stood at `seq`; subscribe after it to see what follows.

    `cursor` is the same place as text, which also says of which log it is: after an erase, `seq` would not tell.
    `before` is what to pass as `before` to get the answers in front of these; None where there are none. `waiting` are
    the first five of the active ones that wait for their turn.
    """

    chat_id: str
    answers: tuple[Answer, ...]
    seq: int
    active: tuple[str, ...]
    cursor: str
    before: int | None = None
    waiting: tuple[Waiting, ...] = ()

    @property
    def conversation(self) -> tuple[Turn, ...]:
        """The turns that count, of these answers: see `chunkspool.conversation.conversation`."""
        return conversation(self.answers)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The conversation as the client showed it that asked for this generation; the generation's answer follows it.

    `after` is the cursor before the generation's first event.
    """

    generation_id: GenerationId
    after: int
    value: JsonValue


@dataclass(frozen=True, slots=True)
class Fork:
    """A chat that was made of another one: its id, and where its log ends, as a seq and as a cursor."""

    chat_id: str
    seq: int
    cursor: str


@dataclass(frozen=True, slots=True)
class Stop:
    """What a stop did: "stopped" ended it, "stopping" asked its worker, "ended": it had ended before."""

    generation_id: GenerationId
    outcome: Literal["stopped", "stopping", "ended"]


@dataclass(frozen=True, slots=True)
class ErasedOwner:
    """What an erasure of an owner has removed; `bytes_removed` is about what it took in Redis.

    `chats`, with all their `generations` and `requests`, whoever made them; `readings`: in how many other chats it was
    noted how far they have read; `stopped`: how many generations of theirs had not ended. `failed` are chats that could
    not be erased, each with its error: the erasure is not over, and the sweep tries them again. `owner_hash` is what
    stands for the owner in the log of the erasure.
    """

    tenant: str
    owner_hash: str
    chats: int = 0
    generations: int = 0
    requests: int = 0
    readings: int = 0
    stopped: int = 0
    bytes_removed: int = 0
    failed: tuple[tuple[str, ChunkspoolError], ...] = ()


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did: the ids of the generations that it ended as lost, and what it could not look after, and why.

    `failed` has the name of the index's member, `<tenant> <chat id> <generation id>`, with each error.
    """

    lost: tuple[str, ...] = ()
    failed: tuple[tuple[str, ChunkspoolError], ...] = ()


@dataclass(frozen=True, slots=True)
class RetentionStep:
    """What one step of retention did, or would do: it looked at some of a tenant's `chats`.

    `shortened` are those whose logs were too long: `events` were dropped, which took about `log_bytes`. `failed` are
    chats that cannot be read, each with its error. `after` asks for the next step; None after the last one.
    """

    looked_at: int
    chats: int
    shortened: tuple[str, ...]
    events: int
    log_bytes: int
    failed: tuple[tuple[str, ChunkspoolError], ...] = ()
    after: str | None = None


@dataclass(frozen=True, slots=True)
class TenantMemory:
    """About how many bytes of Redis the chats of each tenant take: logs, generations, digests and what else they have.

    `tenants` has the tenants that keep the most, at most twenty; `others` is what all others take together. What the
    logs take is known; the rest is estimated from `sampled` chats, which were measured for this.
    """

    tenants: Mapping[str, int]
    others: int
    sampled: int


@dataclass(frozen=True, slots=True)
class Stats:
    """How much there is to do in a queue, and what all tenants keep, at one moment: `at` (Unix ms by Redis's clock).

    `queued`: generations that no worker has claimed, by priority; the oldest has waited for `oldest_queued` seconds,
    None where there is none, and `oldest_by_priority` has that of each priority that has one.

    `outcomes` says how far the groups are behind that read the outcomes of the first twenty tenants with any.

    `generations` counts what has not ended by how the index has it: "waits" for its turn, "sent" to the broker, "runs";
    `running` is the last of these. `chats` are those with a log, of `tenants` tenants; `pinned` of them are kept for
    good, and `to_shorten` are still to be looked at: their logs may be longer than they may be kept.
    `used_memory` and `max_memory` are the Redis server's bytes; a `max_memory` of 0 is no limit. `limits` are those of
    the spool's tenant. What could not be read is None, and `unknown` says why, by the field's name.
    """

    at: int
    queue: str
    queued: Mapping[Priority, int]
    running: int
    oldest_queued: float | None
    generations: Mapping[KnownTurn, int]
    chats: int
    tenants: int
    limits: Policy
    memory: TenantMemory | None = None
    used_memory: int | None = None
    max_memory: int | None = None
    unknown: Mapping[str, str] = field(default_factory=dict)
    oldest_by_priority: Mapping[Priority, float] = field(default_factory=dict)
    pinned: int = 0
    to_shorten: int = 0
    outcomes: tuple[OutcomeLag, ...] = ()
