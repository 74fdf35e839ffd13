"""Makes a generation and hands it to a worker, or leaves no trace. Without I/O."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from chunkspool.effects import Operation, Publish, Tell
from chunkspool.errors import (
    ChatBusy,
    ChatContended,
    CorruptLog,
    EnqueueFailed,
    LimitExceeded,
    RequestIdReused,
    StoreError,
    StoreFull,
    StoreRefused,
)
from chunkspool.ids import checked_id, new_generation_id
from chunkspool.observer import GenerationQueued
from chunkspool.operations.endings import tell_failed, tell_stopped
from chunkspool.operations.limits import limit_error
from chunkspool.operations.log_sizes import measure_again
from chunkspool.operations.new_messages import Asked, ask_again, edit_question, find_replaced
from chunkspool.operations.next_in_chat import free_next
from chunkspool.operations.outcome_relay import relay_soon
from chunkspool.operations.schedule import schedule
from chunkspool.request import (
    GenerationRequest,
    checked_expires,
    checked_on_active,
    checked_priority,
    checked_ttl,
    encode_transcript,
)
from chunkspool.results import Generation
from chunkspool.settings import Settings
from chunkspool.states import OnActive, Priority
from chunkspool.store import keeping, queries, scripts
from chunkspool.store.chats import Listed, lists_of, unlist
from chunkspool.store.commands import ScriptCall
from chunkspool.store.index import place_ms_of, waits
from chunkspool.store.keeping import PINNED_MS
from chunkspool.store.keys import ChatKeys, QueueKeys
from chunkspool.store.recovery import restore_head
from chunkspool.store.removal import REMOVED_AT_ONCE, forget_gone
from chunkspool.store.schedule import Note, Reservation, forget, hash_of, note, reserve
from chunkspool.store.scripts import REPLACED_AT_ONCE, EnqueueReply, NewEvents, NewTranscript

RACES = 100
"""How often it tries again because the chat changed under it. Each time, somebody else made progress."""
LIMIT_RETRY = 1.0
"""Seconds after which another try makes sense: what was asked to stop has usually ended by then."""


def enqueue(
    keys: ChatKeys,
    settings: Settings,
    request: GenerationRequest,
    *,
    on_active: OnActive,
    ttl: float | None,
    request_id: str | None,
    owner: str | None,
    priority: Priority,
    expires: float | None,
    transcript: object,
    trace: str = "",
    replaces: str | None = None,
    edits: bool = False,
    keep_messages: bool | None = None,
) -> Operation[Generation]:
    """Make a generation and hand it to a worker, or let it wait in its line; leave no ghost without a broker."""
    replaced = None
    if replaces is not None:
        replaced = yield from find_replaced(keys, replaces)
        request = edit_question(request, replaced) if edits else ask_again(request, replaced)
    encoded = request.encode(settings.log.max_request_bytes)
    encoded_transcript = encode_transcript(transcript, settings.log.max_request_bytes)
    asked_ms = None if ttl is None else round(checked_ttl(ttl) * 1000)
    usual_ms = round(settings.log.ttl * 1000)
    expires_ms = math.ceil(checked_expires(expires) * 1000)
    checked_on_active(on_active)
    checked_priority(priority)
    for kind, given in (("owner", owner), ("request_id", request_id)):
        if given is not None:
            checked_id(kind, given)
    generation_id = new_generation_id()
    keeps = settings.log.keep_messages if keep_messages is None else keep_messages
    asked = Asked.of(request, replaced, settings.log.max_request_bytes, keeps=keeps)
    new_transcript = yield from _replace_transcript(keys, encoded_transcript)
    queue, task = settings.worker.queue, settings.worker.task
    # Before the generation itself: from its first moment on, a revoke and the sweep can find it.
    reserved = yield from _reserve(
        keys,
        reserve(
            keys,
            QueueKeys(queue),
            generation_id,
            task=task,
            owner=owner,
            priority=priority,
            place_ms=max(asked_ms or usual_ms, place_ms_of(settings.worker.sweep_interval)),
            size=len(encoded),
            limits=settings.policy,
        ),
    )
    if reserved.limit and not (request_id and (yield from queries.has_request(keys, request_id))):
        raise limit_error(reserved)
    owner_hash = hash_of(keys.tenant, owner) if owner else ""
    call = partial(
        scripts.enqueue,
        keys,
        generation_id,
        encoded,
        model=request.model,
        on_active=on_active,
        queue=queue,
        task=task,
        request_id=request_id,
        owner=owner,
        owner_hash=owner_hash,
        transcript=new_transcript,
        expires_ms=expires_ms,
        log_limit=reserved.chat_bytes,
        trace=trace,
        outcome_wanted=reserved.outcome_wanted,
    )
    events = partial(asked.events, generation_id)
    ttls = _Ttls(asked_ms, reserved.ttl_ms or usual_ms, owner_hash)
    try:
        made = yield from _make(keys, on_active, request_id, priority, reserved, settings, call, events, ttls)
    except (ChatBusy, ChatContended, CorruptLog, LimitExceeded, RequestIdReused, StoreFull, StoreRefused):
        yield from _give_back(keys, settings, generation_id)
        yield from _take_back_question(keys, owner, reserved)
        raise
    if made.outcome != "created":
        yield from _give_back(keys, settings, generation_id)
        yield from _take_back_question(keys, owner, reserved)
        yield from _publish_again(keys, made.generation_id, settings, request_id)
    else:
        yield from _hand_over(keys, settings, made, reserved, request_id)
    return Generation(made.generation_id, keys.chat_id, made.after)


def _hand_over(
    keys: ChatKeys, settings: Settings, made: EnqueueReply, reserved: Reservation, request_id: str | None
) -> Operation[None]:
    """Hand what was made to a worker, or let it wait for its turn. Raises `EnqueueFailed` or `LimitExceeded`."""
    generation_id, worker = made.generation_id, settings.worker
    if reserved.limit:
        # It was a repeated request a moment ago; now that one has expired.
        yield from _unpublish(keys, generation_id, request_id, generation_id)
        raise limit_error(reserved)
    if made.is_behind:
        with suppress(StoreError):  # then the sweep notes it
            yield from note(("behind", keys.member(generation_id)))
    elif reserved.at_once:
        try:
            yield from _publish(keys, generation_id, worker.queue, worker.task, request_id, token=generation_id)
        except EnqueueFailed:
            with suppress(StoreError):
                if reserved.outcome_wanted:
                    yield from relay_soon(keys, settings.log)
                    # It stays in the index: the sweep takes it out once its outcome is told.
                    yield from note(("end", keys.member(generation_id)))
                else:
                    yield from _give_back(keys, settings, generation_id)
            raise
    else:
        yield from _wait(settings, [("wait", keys.member(generation_id))])


def _replace_transcript(keys: ChatKeys, encoded: bytes) -> Operation[NewTranscript | None]:
    return NewTranscript(encoded, (yield from queries.transcript_holder(keys))) if encoded else None


def _reserve(keys: ChatKeys, call: ScriptCall[Reservation]) -> Operation[Reservation]:
    """Reserve a place. Before logs that are too large together keep anybody out, some of them are measured again."""
    reserved = yield from call
    if reserved.suspects:
        yield from measure_again(keys, reserved.suspects)
        reserved = yield from call
    return reserved


def _wait(settings: Settings, notes: Sequence[Note]) -> Operation[None]:
    """Put what is noted into its line, and hand over whose turn it is: that may be another one."""
    # If the broker takes no message, it waits all the same. The sweep will hand it over.
    with suppress(EnqueueFailed):
        yield from schedule(settings, notes)


def _give_back(keys: ChatKeys, settings: Settings, generation_id: str) -> Operation[None]:
    """Take back what was reserved."""
    yield from forget(keys, [(generation_id, settings.worker.queue)])


def _take_back_question(keys: ChatKeys, owner: str | None, reserved: Reservation) -> Operation[None]:
    """Let the chat stand in the lists where it stood: nothing new was asked."""
    for key, before in zip(lists_of(keys.tenant, owner), reserved.asked_before, strict=False):
        yield from unlist(key, [Listed(keys.chat_id, reserved.asked)], before)


@dataclass(frozen=True, slots=True)
class _Ttls:
    """For how many ms a chat is to be kept: as the caller asked, or None; and as any chat of the tenant."""

    asked: int | None
    usual: int
    owner: str

    def of(self, chat: queries.ChatLoad) -> int:
        """Return the one that wins: a pin, what was asked, the chat's own, that of any chat."""
        return PINNED_MS if chat.pinned else self.asked or chat.ttl_ms or self.usual

    def note(self, keys: ChatKeys, ttl_ms: int) -> Operation[None]:
        """Let the lists that name the chat be kept for as long as it, if that is longer than was reserved."""
        if ttl_ms > (self.asked or self.usual):
            yield from keeping.note(keys, "keep", kept_ms=ttl_ms, owners=(self.owner,) if self.owner else ())


def _make(
    keys: ChatKeys,
    on_active: OnActive,
    request_id: str | None,
    priority: Priority,
    reserved: Reservation,
    settings: Settings,
    call: Callable[..., ScriptCall[EnqueueReply]],
    events: Callable[..., NewEvents],
    ttls: _Ttls,
) -> Operation[EnqueueReply]:
    """Make `call` with the active generations, again whenever these have changed meanwhile.

    Raises `ChatBusy`, `LimitExceeded` or `RequestIdReused`.
    """
    max_active = settings.limits.max_active if reserved.active is None else reserved.active
    has_made_room = False
    for _ in range(RACES):
        load = yield from queries.load(keys)
        active = load.active
        if active is None:
            yield from restore_head(keys)
            continue
        if not reserved.limit and load.log_bytes > reserved.chat_bytes:
            raise LimitExceeded(
                "chat_bytes",
                f"the log of chat {keys.chat_id!r} has {load.log_bytes} bytes, which is "
                f"more than chat_bytes={reserved.chat_bytes}: begin another chat, or erase this one",
            )
        seen = active[:REPLACED_AT_ONCE] if on_active in {"reject", "replace"} else ()
        new = events(load.recent, log_is_empty=not load.log_bytes)
        ttl_ms = ttls.of(load)
        yield from ttls.note(keys, ttl_ms)
        made = yield from _tell_of(call(active=seen, max_active=max_active, events=new, ttl_ms=ttl_ms), priority)
        if any(ages.outcome_wanted for ages in made.ended):
            yield from relay_soon(keys, settings.log)
        is_crowded = made.outcome == "limit" or (made.outcome == "changed" and len(active) > REPLACED_AT_ONCE)
        if is_crowded and not has_made_room:
            has_made_room = True
            yield from _make_room(keys, on_active, active)
        elif made.outcome != "changed":
            break
    else:
        raise ChatContended(keys.chat_id, "enqueue in it")
    if made.outcome == "differs":
        raise RequestIdReused(keys.chat_id, request_id or "", made.generation_id)
    if made.outcome == "busy":
        raise ChatBusy(keys.chat_id, made.active, len(made.active) + len(active) - len(seen))
    if made.outcome == "limit":
        raise LimitExceeded(
            "active",
            f"too many generations of chat {keys.chat_id!r} have not ended (max_active is {max_active}): "
            "wait for some, or stop them",
            retry_after=LIMIT_RETRY,
        )
    return made


def _tell_of(call: ScriptCall[EnqueueReply], priority: Priority) -> Operation[EnqueueReply]:
    """Make the call, and tell what it has made and ended."""
    reply = yield from call
    for ages in reply.ended:
        yield from tell_stopped(ages)
    if reply.outcome == "created":
        yield from Tell(GenerationQueued(priority))
    return reply


def _make_room(keys: ChatKeys, on_active: OnActive, active: Sequence[str]) -> Operation[None]:
    """Take out of the active generations what is gone, and stop what one call could not replace.

    More than `max_active` are those of an earlier version, or were allowed by another setting.
    """
    if on_active == "replace":
        for generation_id in active[REPLACED_AT_ONCE:]:
            reply = yield from scripts.stop(keys, generation_id, by="replace", reason=None)
            if reply.outcome == "stopped":
                yield from tell_stopped(reply.ages)
    else:
        for at in range(0, len(active), REMOVED_AT_ONCE):
            yield from forget_gone(keys, active[at : at + REMOVED_AT_ONCE])


def _publish_again(keys: ChatKeys, generation_id: str, settings: Settings, request_id: str | None) -> Operation[None]:
    """Publish the message of a repeated request whose generation still waits.

    The first caller may have died between its two steps, and a second message is harmless (claim).
    """
    if (yield from queries.behind(keys, [generation_id])):
        # Its turn comes after those before it in the chat, which may have ended without anybody to tell of it.
        yield from _wait(settings, (yield from free_next([keys])))
        return
    if (yield from waits(keys, generation_id)):
        # Its turn comes in its line; that it was asked for again makes it no earlier.
        yield from _wait(settings, [("wait", keys.member(generation_id))])
        return
    token = secrets.token_hex(4)
    waiting = yield from scripts.publish_again(keys, generation_id, token)
    if waiting is not None:
        queue, task = waiting
        queue, task = queue or settings.worker.queue, task or settings.worker.task
        yield from _publish(keys, generation_id, queue, task, request_id, token)


def _publish(
    keys: ChatKeys, generation_id: str, queue: str, task: str, request_id: str | None, token: str
) -> Operation[None]:
    """Hand the generation to a worker. Where the broker does not take the message, no ghost stays."""
    try:
        yield from Publish(keys.tenant, keys.chat_id, generation_id, queue, task)
    except EnqueueFailed as error:
        is_with_worker = False
        try:
            is_with_worker = (yield from _unpublish(keys, generation_id, request_id, token)) == "claimed"
        except StoreError as unreachable:
            error.add_note(f"The generation could not be ended either and waits for the sweep: {unreachable}")
        if not is_with_worker:
            raise


def _unpublish(keys: ChatKeys, generation_id: str, request_id: str | None, token: str) -> Operation[str]:
    """End a generation whose message the broker did not take; return what became of it."""
    reply = yield from scripts.unpublish(keys, generation_id, request_id, token)
    if reply.outcome == "failed":
        yield from tell_failed("enqueue_failed", reply.ages)
        # Another question may wait for this one by now. Whoever has a broker hands it over.
        freed = yield from free_next([keys])
        if freed:
            with suppress(StoreError):
                yield from note(*freed)
    return reply.outcome
