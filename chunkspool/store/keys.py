"""Every Redis key and channel of the project is built here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from chunkspool.ids import checked_id
from chunkspool.states import Priority


def stops_channel(db: int) -> str:
    """Return the channel on which a stop is pushed to the worker processes; a message is the generation's id.

    Redis's channels know no database, so the name has its number: two deployments may share a server.
    """
    return f"cs:stops:{db}"


def place_of(generation_id: str) -> str:
    """Return the key of a string that begins `<tenant> <chat id>`: a revoke only has the task id.

    It stands in no chat's hash tag, so no script of a chat touches it.
    """
    return f"cs:{{index}}:place:{checked_id('generation_id', generation_id)}"


SIZES_DUE: Final = "cs:{index}:sizes_due"
"""Sorted set: tenants and owners by when the first of their logs expires. See lua/sizes_prelude.lua."""

RETENTION_DUE: Final = "cs:{index}:retention_due"
"""Sorted set: `<tenant> <chat>` by the ms at which its log is to be looked at: is it longer than it may be kept?"""
PINS_DUE: Final = "cs:{index}:pins_due"
"""Sorted set: `<tenant> <chat>` of all chats that are pinned, by the ms at which their TTLs are to be renewed."""

TENANT_BYTES: Final = "cs:{index}:tenant_bytes"
"""Sorted set: tenants by what the logs of their chats take, and "/" for all of them. See lua/sizes_prelude.lua."""
TENANT_CHATS: Final = "cs:{index}:tenant_chats"
"""Sorted set: tenants by how many chats of theirs are counted there, and "/" for all of them."""

TOUCHED_DUE: Final = "cs:{index}:touched_due"
"""Sorted set: people, as "<tenant>/<hash>", by when one of their chats is to be looked at; lua/touch_prelude.lua's."""
ERASURES: Final = "cs:{index}:erasures"
"""Sorted set: "<tenant> <owner>" by the ms at which the erasure of that owner went on; only while it is under way."""


OUTCOME_TENANTS: Final = "cs:{index}:outcome_tenants"
"""Sorted set: tenants whose outcomes somebody waits for, by the ms at which a consumer joined last."""


@dataclass(frozen=True, slots=True)
class QueueKeys:
    """The index of the generations of one Celery queue, which the workers of that queue look after."""

    queue: str

    def _key(self, name: str) -> str:
        # A queue's name may have any characters; a key's does not.
        return f"cs:{{index}}:{name}:{quote(self.queue, safe='')}"

    @property
    def unfinished(self) -> str:
        """Sorted set, `<tenant> <chat id> <generation id>` by the ms of its enqueue: what the sweep goes through."""
        return self._key("unfinished")

    @property
    def republished(self) -> str:
        """Sorted set, as `unfinished`, by the ms at which the sweep published the message again."""
        return self._key("republished")

    @property
    def sent(self) -> str:
        """Sorted set, as `unfinished`, by the ms at which the message was handed to the broker; unclaimed ones."""
        return self._key("sent")

    @property
    def running(self) -> str:
        """Sorted set, as `sent`, of those that a worker has claimed."""
        return self._key("running")

    def queued(self, priority: Priority) -> str:
        """Return the key of a sorted set, as `unfinished`, of those of a priority that no worker has claimed."""
        return f"{self._key('queued')}:{priority}"

    @property
    def slots(self) -> str:
        """Hash: worker -> how many slots it offers, and the ms until which that counts; lua/schedule_prelude.lua's."""
        return self._key("slots")

    @property
    def watermark(self) -> str:
        """String: the ms at which the newest claimed message was handed to the broker. The queue has come this far."""
        return self._key("watermark")

    @property
    def sweep_lock(self) -> str:
        """String: there while a sweep is under way or was a moment ago."""
        return self._key("sweep_lock")

    @property
    def dead_letters(self) -> str:
        """List of JSON: messages of the queue that no worker can run, the newest first."""
        return self._key("dead_letters")

    def unacked(self, redelivery: float) -> dict[str, str]:
        """Return the names of kombu's keys for the messages that the queue's workers hold, as transport options.

        kombu's own names are the same for every app of a server, and each app's workers requeue whatever has stood
        there for longer than *their* time-out, also other apps' messages. So workers with another `redelivery`
        (seconds) have other keys, too. What a worker held that died before its time-out was changed, the sweep finds.
        """
        ours = f"{quote(self.queue, safe='')}:{redelivery:g}"
        names = {"unacked_key": "unacked", "unacked_index_key": "unacked_index", "unacked_mutex_key": "unacked_mutex"}
        return {option: f"chunkspool.{name}:{ours}" for option, name in names.items()}


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """The keys of one tenant that Python builds; those of its lines are lua/schedule_prelude.lua's."""

    tenant: str

    def __post_init__(self) -> None:
        """Check the id."""
        checked_id("tenant", self.tenant)

    @property
    def policy(self) -> str:
        """Hash: limit -> value, of the limits that are not the defaults."""
        return f"cs:{{index}}:policy:{self.tenant}"

    @property
    def streams(self) -> str:
        """Hash: web process -> how many event streams of the tenant it has open, and until when that counts."""
        return f"cs:{{index}}:streams:{self.tenant}"

    def held_streams(self, limit: str, name_hash: str) -> str:
        """Return the key of what counts for a limit: `streams`, or the same of one owner or chat, by its hash."""
        return self.streams if limit == "streams" else f"cs:{{index}}:{limit}:{self.tenant}:{name_hash}"

    def chats(self, owner_hash: str | None) -> str:
        """Return the key of a sorted set: chat -> ms of its newest question; with a hash, of that owner's questions."""
        return f"cs:{{index}}:chats:{self.tenant}{f'/{owner_hash}' if owner_hash else ''}"

    def touched(self, person: str) -> str:
        """Return the key of a sorted set: chat in which a person (by their hash) has left something -> ms.

        The ms is when that was last known; lua/touch_prelude.lua's.
        """
        return f"cs:{{index}}:touched:{self.tenant}/{person}"

    def erasing(self, person: str) -> str:
        """Return the key of a sorted set, as `touched`: what an erasure of the person is still to go through."""
        return f"cs:{{index}}:erasing:{self.tenant}/{person}"

    def leaving(self, person: str) -> str:
        """Return the key of a hash: "<list> <chat>" -> ms; the lists that a chat is still to be taken out of.

        Only while an erasure of the person takes a chat that others have something in, too.
        """
        return f"cs:{{index}}:leaving:{self.tenant}/{person}"

    def of_person(self, person: str) -> tuple[str, ...]:
        """Return the keys of what is kept of an owner apart from their chats; all begin anew with the next question."""
        return (
            self.chats(person),
            f"cs:{{index}}:sizes:{self.tenant}/{person}",
            f"{self.sizes_until}/{person}",
            f"cs:{{index}}:rate:{self.tenant}/{person}",
            self.held_streams("owner_streams", person),
            self.leaving(person),
        )

    @property
    def pinned(self) -> str:
        """Sorted set: the tenant's pinned chats by the ms at which they were pinned."""
        return f"cs:{{index}}:pinned:{self.tenant}"

    @property
    def sizes_until(self) -> str:
        """Sorted set: the tenant's chats by the ms at which their logs expire; lua/sizes_prelude.lua's."""
        return f"cs:{{index}}:sizes_until:{self.tenant}"

    @property
    def active(self) -> str:
        """Sorted set: the tenant's generations that have not ended: 0 waits, 1 is with the broker, 2 runs."""
        return f"cs:{{index}}:active:{self.tenant}"

    # What follows is in a slot of its own: see lua/outcomes_prelude.lua.

    @property
    def outcomes(self) -> str:
        """Stream: one entry for each generation that has ended, until all groups have acknowledged it."""
        return f"cs:{{{self.tenant}}}:outcomes"

    @property
    def outcomes_seen(self) -> str:
        """Sorted set: generation -> ms until which it is known to be in the stream."""
        return f"cs:{{{self.tenant}}}:outcomes_seen"

    @property
    def outcomes_dead(self) -> str:
        """Stream: outcomes that a group could not handle."""
        return f"cs:{{{self.tenant}}}:outcomes_dead"

    @property
    def outcomes_dropped(self) -> str:
        """Hash: group that was set aside, because it left too much unread -> when, and how many it has lost."""
        return f"cs:{{{self.tenant}}}:outcomes_dropped"


@dataclass(frozen=True, slots=True)
class ChatKeys:
    """The keys of one chat. They share one hash tag, so that one script may touch them all on Redis Cluster.

    `db` is the number of the database they are in; only the channels need it (see `stops_channel`).
    """

    tenant: str
    chat_id: str
    db: int = 0

    def __post_init__(self) -> None:
        """Check both ids: no key is ever built from an unchecked one."""
        checked_id("tenant", self.tenant)
        checked_id("chat_id", self.chat_id)

    def _key(self, name: str) -> str:
        return f"cs:{{{self.tenant}/{self.chat_id}}}:{name}"

    @property
    def seq(self) -> str:
        """String: the counter. It outlives the log."""
        return self._key("seq")

    @property
    def log(self) -> str:
        """Stream: the events, entry id `<seq>-0`."""
        return self._key("log")

    @property
    def head(self) -> str:
        """Hash: the ids of generations that have not ended and the log's identity; see lua/prelude.lua."""
        return self._key("head")

    @property
    def gens(self) -> str:
        """Sorted set: the chat's generations by the time (ms) at which their hash expires."""
        return self._key("gens")

    @property
    def readers(self) -> str:
        """Hash: reader -> the seq up to which it has read."""
        return self._key("readers")

    @property
    def owners(self) -> str:
        """Sorted set: hashes of those who have asked in the chat, beyond those that `head` has room for."""
        return self._key("owners")

    @property
    def digest(self) -> str:
        """Hash: the log once more, in packed blocks of merged events; a cache, see lua/add_block.lua."""
        return self._key("digest")

    @property
    def title(self) -> str:
        """String: the chat's title; kept as long as the log."""
        return self._key("title")

    def copy(self, token: str) -> str:
        """Return the key of a stream: a copy of another chat's log that is to become this chat's; kept for a minute."""
        return self._key(f"copy:{token}")

    @property
    def outbox(self) -> str:
        """Hash: generation -> what is to be told of its end, until a relay has told it; see lua/prelude.lua."""
        return self._key("outbox")

    @property
    def live(self) -> str:
        """Channel: frames."""
        return self._key(f"live:{self.db}")

    @property
    def stops(self) -> str:
        """Channel: stops, for the worker processes."""
        return stops_channel(self.db)

    def gen(self, generation_id: str) -> str:
        """Return the key of a hash: one generation."""
        return self._key(f"gen:{checked_id('generation_id', generation_id)}")

    def request(self, request_id: str) -> str:
        """Return the key of a string, `<generation id> <after>`: what an enqueue with this request id made."""
        return self._key(f"request:{checked_id('request_id', request_id)}")

    def request_or_gen(self, request_id: str | None, generation_id: str) -> str:
        """Return the request's key; the generation's where there is none, for scripts whose KEYS are fixed."""
        return self.request(request_id) if request_id else self.gen(generation_id)

    def member(self, generation_id: str) -> str:
        """Return the member of a queue's index that stands for a generation."""
        return f"{self.tenant} {self.chat_id} {checked_id('generation_id', generation_id)}"

    def writer(self, generation_id: str) -> tuple[str, ...]:
        """Return the KEYS of every script that writes to the log, in the order that `lua/prelude.lua` reads."""
        return (self.seq, self.log, self.head, self.gens, self.live, self.gen(generation_id), self.readers)
