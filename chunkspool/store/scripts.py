"""The Lua scripts: one typed door each. A door only builds a `ScriptCall`; `store.client` sends it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, Self, TypeVar

from pydantic_core import to_json

from chunkspool.events import (
    GenerationFailed,
    GenerationQueued,
    GenerationStopped,
    encode,
)
from chunkspool.states import EndState, OnActive
from chunkspool.store.commands import Arg, Script, ScriptCall, Transaction, as_bytes, as_text
from chunkspool.store.keys import ChatKeys
from chunkspool.store.log_size import LogSize, log_size_of

T = TypeVar("T")
LastBatch = EndState | Literal["released", "abandoned"]
"""How the last batch of an attempt leaves the generation: ended, or given up, so that another may claim it at once.

An abandoned attempt counts towards `max_attempts`, a released one does not."""
REPLACED_AT_ONCE: Final = 32
"""Active generations that one `enqueue` goes through, as in lua/enqueue.lua."""
WAITING_AT_ONCE: Final = 32
"""Generations that one `free_next` keeps."""
_WITH_SCHEDULE: Final = ("schedule_prelude",)
_WITH_SIZES: Final = ("schedule_prelude", "sizes_prelude")
_WITH_CHATS: Final = (*_WITH_SIZES, "chats_prelude", "touch_prelude")
_WITH_TOUCHED: Final = (*_WITH_SCHEDULE, "touch_prelude")
_WITH_OUTCOMES: Final = ("outcomes_prelude",)
_PRELUDES: Final = {
    **dict.fromkeys(
        (
            "ack_outcomes",
            "forget_outcomes",
            "join_outcomes",
            "lag_outcomes",
            "leave_outcomes",
            "next_outcomes",
            "relay_outcomes",
        ),
        _WITH_OUTCOMES,
    ),
    **dict.fromkeys(("forget", "leave", "position", "hold_streams"), _WITH_SCHEDULE),
    **dict.fromkeys(("touch", "recheck_touched", "begin_erasure", "settle_erasure", "end_erasure"), _WITH_TOUCHED),
    **dict.fromkeys(("schedule", "count_sizes", "note_kept", "renew_pin"), _WITH_SIZES),
    **dict.fromkeys(("reserve", "reserve_fork"), _WITH_CHATS),
    **dict.fromkeys(
        (
            "add_block",
            "chats_after",
            "drop",
            "erase",
            "mark_read",
            "publish_again",
            "restore_head",
            "set_title",
            "settle_retention",
            "stage_fork",
            "transaction",
            "unlist",
        ),
        (),
    ),
}
"""What is put in front of a script, where it is not `prelude`."""


@cache
def load(name: str) -> Script:
    """Return the script `lua/<name>.lua` with its preludes in front."""
    folder = files("chunkspool.store") / "lua"
    parts = (*_PRELUDES.get(name, ("prelude",)), name)
    text = "".join((folder / f"{part}.lua").read_text("utf-8") for part in parts)
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True, slots=True)
class Ages:
    """How long a generation had lived when it ended, and how long its stop had been asked for, in seconds.

    None where that is not known, or was not asked. `outcome_wanted`: a relay is to tell its outcome.
    """

    lived: float | None = None
    stopping: float | None = None
    outcome_wanted: bool = False


def _ages_of(lived_ms: Any, asked_ms: Any, wanted: Any) -> Ages:
    # Below 0 also where the server's clock was set back.
    lived, asked = (None if int(ms) < 0 else int(ms) / 1000 for ms in (lived_ms, asked_ms))
    return Ages(lived, asked, bool(int(wanted)))


def _all_ages_of(numbers: Sequence[Any]) -> tuple[Ages, ...]:
    return tuple(_ages_of(*numbers[i : i + 3]) for i in range(0, len(numbers), 3))


@dataclass(frozen=True, slots=True)
class EnqueueReply:
    """What `enqueue` replied. `after` is the cursor before the generation's first event; `active` fills "busy".

    "limit": as many generations are active as may be. `ended`: those that it has stopped at once. `is_behind`: what it
    made is to wait for others of the chat.
    """

    outcome: Literal["created", "same", "differs", "busy", "changed", "limit"]
    generation_id: str = ""
    after: int = 0
    active: tuple[str, ...] = ()
    ended: tuple[Ages, ...] = field(default=(), compare=False)
    is_behind: bool = False


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """What `claim` replied. `held_ms`: how long the other attempt's lease still runs; `status`: how it had ended.

    `room`: by how many bytes the log may still grow; None for a generation that has no such limit. `age`: seconds since
    it could begin; "behind": it cannot yet; `speaks_first`: no attempt before has said anything. `code` and `ages` are
    of one that it has ended.
    """

    outcome: Literal["claimed", "held", "stopped", "failed", "ended", "gone", "behind"]
    attempt: int = 0
    request: bytes = b""
    request_id: str | None = None
    held_ms: int = 0
    status: str = ""
    room: int | None = None
    age: float = field(default=0.0, compare=False)
    speaks_first: bool = field(default=True, compare=False)
    code: str = field(default="", compare=False)
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class AppendReply:
    """What `append` replied. `first` and `last` are the batch's seqs (0, 0 for a heartbeat).

    For "gap", `first` is the index that the script expected. `log_size` and `ages` come with a written ending.
    """

    outcome: Literal["ok", "fenced", "ended", "gone", "gap"]
    first: int = 0
    last: int = 0
    stop_asked: bool = False
    status: str = ""
    log_size: LogSize | None = None
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class StopReply:
    """What `stop` replied: "stopped" has ended it, "stopping" asked its worker, "ended" and "gone" changed nothing."""

    outcome: Literal["stopped", "stopping", "ended", "gone"]
    status: str = ""
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class UnpublishReply:
    """What `unpublish` replied: "failed" has ended the generation now; see lua/unpublish.lua."""

    outcome: Literal["failed", "kept", "claimed", "ended", "gone"]
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class LoseReply:
    """What `lose` replied: "lost" and "stopped" have ended the generation now."""

    outcome: Literal["lost", "stopped", "alive", "ended", "gone"]
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class ExpireReply:
    """What `expire` replied: "expired" has ended the generation now."""

    outcome: Literal["expired", "alive", "ended", "gone"]
    ages: Ages = field(default=Ages(), compare=False)


@dataclass(frozen=True, slots=True)
class MarkReadReply:
    """What `mark_read` replied. `seq` is how far the reader has read; for "ahead", the chat's last seq.

    "new": nothing is known of the reader here, who is to be noted first; the chat is kept for `kept_ms`.
    """

    outcome: Literal["ok", "ahead", "gone", "new"]
    seq: int = 0
    kept_ms: int = 0


@dataclass(frozen=True, slots=True)
class NewTranscript:
    """A transcript, encoded, and the generation that holds the one that it replaces."""

    raw: bytes
    holder: str | None


@dataclass(frozen=True, slots=True)
class NewEvents:
    """What an enqueue writes, encoded: `messages`, of which the first `earlier` only into an empty log, and `queued`.

    `seen`: the keys of the messages that the caller found to be in the log; `recent`: those that are, afterwards.
    `replaces`: the generation of which the new one is another version, or "".
    """

    messages: tuple[bytes, ...]
    earlier: int
    queued: bytes
    seen: tuple[str, ...] = ()
    recent: tuple[str, ...] = ()
    replaces: str = ""

    @classmethod
    def only_queued(cls, generation_id: str, replaces: str = "") -> Self:
        """Return what is written where the log is to have no messages."""
        queued = encode(GenerationQueued(generation_id=generation_id, replaces=replaces or None))
        return cls((), 0, queued, replaces=replaces)


def enqueue(  # noqa: PLR0913 - as many as the script has
    keys: ChatKeys,
    generation_id: str,
    request: bytes,
    *,
    model: str | None,
    active: Sequence[str],
    on_active: OnActive,
    ttl_ms: int,
    queue: str = "",
    task: str = "",
    request_id: str | None = None,
    owner: str | None = None,
    transcript: NewTranscript | None = None,
    max_active: int = REPLACED_AT_ONCE,
    expires_ms: int = 0,
    log_limit: int | None = None,
    trace: str = "",
    owner_hash: str = "",
    events: NewEvents | None = None,
    outcome_wanted: bool = False,
) -> ScriptCall[EnqueueReply]:
    """Make a generation. `request` is encoded and names `model`; `active` is what the caller saw as active.

    Of more than `REPLACED_AT_ONCE`, it is the oldest of them. `queue` and `task` say how its message gets to a worker,
    `log_limit` how many bytes the log may have before the generation ends. `trace`: the trace it is of. `owner_hash`
    stands for the owner in keys that may outlive the chat. `events` is what it writes: generation.queued at least.
    """
    events = events or NewEvents.only_queued(generation_id)
    made = keys.request_or_gen(request_id, generation_id)
    args: list[Arg] = [generation_id, request_id or "", on_active, ttl_ms, owner or "", request]
    args += [
        "" if model is None else to_json(model),
        events.queued,
        keys.stops,
        queue,
        task,
        transcript.raw if transcript else b"",
        max_active,
        # Not in the script: a request may be large.
        hashlib.sha1(request + events.replaces.encode(), usedforsecurity=False).hexdigest(),
        expires_ms,
        "" if log_limit is None else log_limit,
        trace,
        owner_hash,
        " ".join(events.seen),
        " ".join(events.recent),
        len(events.messages),
        events.earlier,
        int(outcome_wanted),
        *events.messages,
    ]
    for other in active:
        args += [other, encode(GenerationStopped(generation_id=other, by="replace"))]

    def parse(reply: list[Any]) -> EnqueueReply:
        match as_text(reply[0]):
            case "created" | "behind" as made:
                ended = _all_ages_of(reply[2:])
                return EnqueueReply("created", generation_id, int(reply[1]), ended=ended, is_behind=made == "behind")
            case "same":
                return EnqueueReply("same", as_text(reply[1]), int(reply[2]))
            case "differs":
                return EnqueueReply("differs", as_text(reply[1]))
            case "busy":
                return EnqueueReply("busy", active=tuple(map(as_text, reply[1:])))
            case "limit":
                return EnqueueReply("limit", ended=_all_ages_of(reply[2:]))
            case _:
                return EnqueueReply("changed")

    holder = keys.gen((transcript and transcript.holder) or generation_id)
    script_keys = (*keys.writer(generation_id), made, holder, *map(keys.gen, active))
    return ScriptCall(load("enqueue"), script_keys, tuple(args), parse)


def claim(
    keys: ChatKeys,
    generation_id: str,
    *,
    token: str,
    lease_ms: int,
    max_attempts: int,
    model: str | None,
    continues: bool = False,
    span: str = "",
) -> ScriptCall[ClaimReply]:
    """Take a generation for one more attempt. `model`: which it gets if its request names none.

    `token` is the caller's own: the same call again is the same claim. `continues`: an attempt after the first goes
    on from what the earlier ones have said. `span` is the attempt's in its trace: what a later one links to.
    """
    failed = GenerationFailed(
        generation_id=generation_id,
        code="too_many_attempts",
        message=f"The answer was begun {max_attempts} times and never finished.",
        retryable=True,
    )

    def parse(reply: list[Any]) -> ClaimReply:
        match as_text(reply[0]):
            case "claimed":
                room = as_text(reply[4])
                claimed = ClaimReply("claimed", int(reply[1]), as_bytes(reply[2]), as_text(reply[3]) or None)
                claimed = replace(claimed, age=max(int(reply[5]), 0) / 1000, speaks_first=not int(reply[6]))
                return replace(claimed, room=int(room)) if room else claimed
            case "held":
                return ClaimReply("held", held_ms=int(reply[1]))
            case "stopped":
                return ClaimReply("stopped", status="stopped", ages=_ages_of(*reply[2:5]))
            case "failed":
                return ClaimReply("failed", status="failed", ages=_ages_of(*reply[2:5]), code=as_text(reply[5]))
            case "ended":
                return ClaimReply("ended", status=as_text(reply[1]))
            case outcome:
                return ClaimReply("behind" if outcome == "behind" else "gone")

    before, between, end = started_pieces(generation_id, continues=False)
    continuing_end = started_pieces(generation_id, continues=True)[2] if continues else b""
    args: tuple[Arg, ...] = (generation_id, token, lease_ms, max_attempts, before, between, end)
    args += (to_json(model), encode(failed), continuing_end, _expired_event(generation_id), span)
    return ScriptCall(load("claim"), keys.writer(generation_id), args, parse)


def started_pieces(generation_id: str, *, continues: bool) -> tuple[bytes, bytes, bytes]:
    """Return the JSON of `generation.started` before, between and after the attempt's number and the model.

    Both are known to the script alone. The whole is what `encode` gives for the same event.
    """
    before = b'{"type":"generation.started","generation":%b,"attempt":' % to_json(generation_id)
    return before, b',"model":', b',"continues":%b}' % to_json(continues)


def append(
    keys: ChatKeys,
    generation_id: str,
    *,
    attempt: int,
    index: int,
    lease_ms: int,
    events: Sequence[bytes] = (),
    ending: LastBatch | None = None,
    request_id: str | None = None,
) -> ScriptCall[AppendReply]:
    """Append a batch; `index` numbers its first event within the attempt, from 1. Without events: the heartbeat."""
    return Appends(keys, generation_id, attempt, lease_ms, request_id).batch(index, events, ending)


class Appends:
    """The appends of one attempt: what they share is made once, as there may be hundreds a second."""

    __slots__ = ("_attempt", "_generation_id", "_keys", "_lease_ms", "_script")

    def __init__(
        self, keys: ChatKeys, generation_id: str, attempt: int, lease_ms: int, request_id: str | None = None
    ) -> None:
        """Build the keys."""
        self._script = load("append")
        self._keys = (*keys.writer(generation_id), keys.request_or_gen(request_id, generation_id))
        self._generation_id = generation_id
        self._attempt = attempt
        self._lease_ms = lease_ms

    def batch(
        self, index: int, events: Sequence[bytes] = (), ending: LastBatch | None = None
    ) -> ScriptCall[AppendReply]:
        """Return the append of one batch. See `append`."""
        args: tuple[Arg, ...] = (self._generation_id, self._attempt, index, self._lease_ms, ending or "", *events)
        return ScriptCall(self._script, self._keys, args, _parse_append)


_WITHOUT_SIZE: Final = 5


def _parse_append(reply: list[Any]) -> AppendReply:
    match as_text(reply[0]):
        case "ok":
            written = AppendReply("ok", int(reply[1]), int(reply[2]), bool(int(reply[3])), as_text(reply[4]))
            if len(reply) == _WITHOUT_SIZE:
                return written
            return replace(written, log_size=log_size_of(*map(int, reply[5:8])), ages=_ages_of(*reply[8:11]))
        case "ended":
            return AppendReply("ended", status=as_text(reply[1]))
        case "fenced":
            return AppendReply("fenced")
        case "gap":
            return AppendReply("gap", first=int(reply[1]))
        case _:
            return AppendReply("gone")


def stop(keys: ChatKeys, generation_id: str, *, by: str, reason: str | None) -> ScriptCall[StopReply]:
    """Stop a generation. `by` tells the readers who asked."""

    def parse(reply: list[Any]) -> StopReply:
        outcome: Any = as_text(reply[0])
        if outcome == "stopped":
            return StopReply(outcome, ages=_ages_of(*reply[2:5]))
        return StopReply(outcome, as_text(reply[1]) if outcome == "ended" else "")

    event = encode(GenerationStopped(generation_id=generation_id, by=by, reason=reason))
    return ScriptCall(load("stop"), keys.writer(generation_id), (generation_id, event, keys.stops), parse)


def lose(keys: ChatKeys, generation_id: str, *, silent_ms: int) -> ScriptCall[LoseReply]:
    """End a generation whose message is lost, if it has shown no sign of life for `silent_ms`."""
    failed = GenerationFailed(
        generation_id=generation_id,
        code="lost",
        message="The request was lost on its way to a worker.",
        retryable=True,
    )

    def parse(reply: list[Any]) -> LoseReply:
        outcome: Any = as_text(reply[0])
        return LoseReply(outcome, _ages_of(*reply[2:5])) if outcome in {"lost", "stopped"} else LoseReply(outcome)

    return ScriptCall(load("lose"), keys.writer(generation_id), (generation_id, encode(failed), silent_ms), parse)


def expire(keys: ChatKeys, generation_id: str) -> ScriptCall[ExpireReply]:
    """End a generation that has waited for longer than it is wanted."""

    def parse(reply: list[Any]) -> ExpireReply:
        outcome: Any = as_text(reply[0])
        return ExpireReply(outcome, _ages_of(*reply[2:5])) if outcome == "expired" else ExpireReply(outcome)

    args = generation_id, _expired_event(generation_id)
    return ScriptCall(load("expire"), keys.writer(generation_id), args, parse)


def _expired_event(generation_id: str) -> bytes:
    failed = GenerationFailed(
        generation_id=generation_id,
        code="expired",
        message="No worker was free before the answer was no longer wanted.",
        retryable=True,
    )
    return encode(failed)


def free_next(keys: ChatKeys, waiting: Sequence[str] = ()) -> ScriptCall[str | None]:
    """Let the chat's oldest generation begin, if it waited behind others that have ended; return its id, else None.

    `waiting`: up to `WAITING_AT_ONCE` that wait behind others, oldest first. They are kept, and listed if they are not.
    """
    script_keys = (keys.seq, keys.log, keys.head, keys.gens, keys.live)
    return ScriptCall(
        load("free_next"), script_keys, tuple(waiting), lambda reply: as_text(reply[0]) if reply else None
    )


def mark_read(keys: ChatKeys, reader: str, seq: int, *, is_noted: bool = False) -> ScriptCall[MarkReadReply]:
    """Note how far a reader has read. `is_noted`: that they have touched the chat (`store.touched.touch`)."""

    def parse(reply: list[Any]) -> MarkReadReply:
        outcome: Any = as_text(reply[0])
        match outcome:
            case "gone":
                return MarkReadReply(outcome)
            case "new":
                return MarkReadReply(outcome, kept_ms=int(reply[1]))
            case _:
                return MarkReadReply(outcome, int(reply[1]))

    args = (reader, seq, "1" if is_noted else "")
    return ScriptCall(load("mark_read"), (keys.seq, keys.readers), args, parse)


def restore_head(keys: ChatKeys, active: Sequence[str]) -> ScriptCall[bool]:
    """Write `head` again after it was evicted. Returns False when it is there by now."""
    args = (" ".join(active),)
    return ScriptCall(load("restore_head"), (keys.seq, keys.head), args, lambda reply: bool(int(reply[0])))


def unpublish(keys: ChatKeys, generation_id: str, request_id: str | None, token: str) -> ScriptCall[UnpublishReply]:
    """End a generation whose message the broker did not take, unless another caller of its request publishes it.

    `token` is that of `publish_again`, or the generation's id for the caller that made it.
    """
    failed = GenerationFailed(
        generation_id=generation_id,
        code="enqueue_failed",
        message="The request could not be handed to a worker.",
        retryable=True,
    )

    def parse(reply: list[Any]) -> UnpublishReply:
        outcome: Any = as_text(reply[0])
        return UnpublishReply(outcome, _ages_of(*reply[2:5])) if outcome == "failed" else UnpublishReply(outcome)

    script_keys = (*keys.writer(generation_id), keys.request_or_gen(request_id, generation_id))
    return ScriptCall(load("unpublish"), script_keys, (generation_id, encode(failed), token), parse)


def publish_again(keys: ChatKeys, generation_id: str, token: str) -> ScriptCall[tuple[str, str] | None]:
    """Announce that a message is published again; returns queue and task, None if the generation waits no more.

    `token` is the caller's own: the same call again changes nothing.
    """

    def parse(reply: list[Any]) -> tuple[str, str] | None:
        return (as_text(reply[0]), as_text(reply[1])) if reply else None

    return ScriptCall(load("publish_again"), (keys.gen(generation_id),), (token,), parse)


def transaction(of: Transaction[T]) -> ScriptCall[T]:
    """Do by a script what `of` does by MULTI and EXEC. A command's key is its second word; DEL has more, TIME none."""
    keys = dict.fromkeys(
        str(key) for command in of.commands for key in (command[1:] if command[0] == "DEL" else command[1:2])
    )
    args = (word for command in of.commands for word in (len(command), *command))
    return ScriptCall(load("transaction"), tuple(keys), tuple(args), of.parse)
