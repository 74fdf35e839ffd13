"""Makes a generation and hands it to a worker, or leaves no trace. Without I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from chunkspool.effects import Operation, Publish
from chunkspool.errors import ChatBusy, CorruptLog, EnqueueFailed, StoreError, StoreFull, StoreRefused
from chunkspool.events import GenerationFailed, encode
from chunkspool.ids import new_generation_id
from chunkspool.request import GenerationRequest, checked_on_active, checked_ttl
from chunkspool.results import Generation
from chunkspool.settings import Settings
from chunkspool.store import scripts
from chunkspool.store.commands import Call, Reads, as_text
from chunkspool.store.index import forget_places, remember_place
from chunkspool.store.keys import ChatKeys, checked_id
from chunkspool.store.scripts import Appended, Enqueued, OnActive

RACES = 100
"""How often it begins again because the chat changed under it. Each time, somebody else got on."""


def enqueue(
    keys: ChatKeys,
    settings: Settings,
    request: GenerationRequest,
    *,
    on_active: OnActive,
    ttl: float | None,
    request_id: str | None,
    owner: str | None,
) -> Operation[Generation]:
    """Make a generation and hand it to a worker; leave no ghost when the broker is away."""
    encoded = request.encoded(settings.max_request_bytes)
    ttl_ms = round(checked_ttl(settings.ttl if ttl is None else ttl) * 1000)
    checked_on_active(on_active)
    for kind, given in (("owner", owner), ("request_id", request_id)):
        if given is not None:
            checked_id(kind, given)
    generation_id = new_generation_id()
    # Before the generation itself: from its first moment on, a revoke and the sweep can find it.
    yield remember_place(keys, generation_id, ttl_ms)
    try:
        made: Enqueued = yield from _made(
            keys,
            on_active,
            partial(
                scripts.enqueue,
                keys,
                generation_id,
                encoded,
                model=request.model,
                on_active=on_active,
                ttl_ms=ttl_ms,
                request_id=request_id,
                owner=owner,
            ),
        )
    except (ChatBusy, CorruptLog, StoreFull, StoreRefused):
        yield forget_places(keys, [generation_id])
        raise
    if made.outcome != "created":
        yield forget_places(keys, [generation_id])
    generation = Generation(made.generation_id, keys.chat_id, made.after)
    if made.outcome == "created" or (yield _is_queued(keys, generation.id)):
        # A repeated request whose generation still waits is published again: the first caller may have died between
        # its two steps, and a second message is harmless (claim).
        yield from _publish(keys, generation.id, request_id)
    return generation


def _made(keys: ChatKeys, on_active: OnActive, call: Callable[..., Call[Enqueued]]) -> Operation[Enqueued]:
    """Make `call` with the active generations, again whenever these have changed meanwhile. Raises `ChatBusy`."""
    for _ in range(RACES):
        active: tuple[str, ...] = () if on_active == "allow" else (yield _active(keys))
        made: Enqueued = yield call(active=active)
        if made.outcome != "changed":
            break
    if made.outcome in {"busy", "changed"}:
        raise ChatBusy(keys.chat_id, made.active or active)
    return made


def _publish(keys: ChatKeys, generation_id: str, request_id: str | None) -> Operation[None]:
    try:
        yield Publish(keys.tenant, keys.chat_id, generation_id)
    except EnqueueFailed as error:
        failed = GenerationFailed(
            generation=generation_id,
            code="enqueue_failed",
            message="The request could not be handed to a worker.",
            retryable=True,
        )
        try:
            ended: Appended = yield scripts.append(
                keys, generation_id, attempt=0, index=1, lease_ms=0, events=(encode(failed),), ending="failed"
            )
            if ended.outcome == "fenced":
                return  # the message did arrive: a worker has it
            if request_id is not None:
                yield scripts.withdraw(keys, generation_id, request_id)
        except StoreError as away:
            error.add_note(f"The generation could not be ended either, and is queued until the sweep ends it: {away}")
        raise


def _active(keys: ChatKeys) -> Reads[tuple[str, ...]]:
    return Reads((("HGET", keys.head, "active"),), lambda replies: tuple(as_text(replies[0] or "").split()))


def _is_queued(keys: ChatKeys, generation_id: str) -> Reads[bool]:
    return Reads((("HGET", keys.gen(generation_id), "status"),), lambda replies: as_text(replies[0]) == "queued")
