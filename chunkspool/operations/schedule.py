"""Hands the generations whose turn it is to the workers, as far as these have room. Without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from chunkspool.effects import Operation, Publish
from chunkspool.errors import EnqueueFailed, StoreError
from chunkspool.operations.next_in_chat import free_next
from chunkspool.settings import Settings
from chunkspool.store.keys import ChatKeys, QueueKeys
from chunkspool.store.schedule import NOTES_MAX, TAKE_MAX, Note, Taken, WorkerSlots, note
from chunkspool.store.schedule import schedule as schedule_call


def schedule(
    settings: Settings,
    notes: Sequence[Note],
    *,
    queue: str = "",
    worker: WorkerSlots | None = None,
    publishes: bool = True,
    tidies: bool = False,
) -> Operation[int]:
    """Note what became of generations, then publish the messages of those whose turn it is; return how many.

    Where one has ended, the next of its chat may begin that waited for it.

    One whose message the broker does not take waits again. Raises `EnqueueFailed` then, or `StoreError`. Without
    `publishes`, nothing is taken out: this process has no broker, and others will do it. `tidies`: see the script.
    """
    keys = QueueKeys(queue or settings.worker.queue)
    limits, most = settings.policy, TAKE_MAX if publishes else 0
    waiting = [*notes, *(yield from free_next(chats_of_ended(notes)))]
    published = 0
    while True:
        now, waiting = waiting[:NOTES_MAX], waiting[NOTES_MAX:]
        taken = yield from schedule_call(keys, now, limits=limits, most=most, worker=worker, tidies=tidies)
        published += yield from _publish_all(taken)
        if not waiting and len(taken) < TAKE_MAX:
            return published


def chats_of_ended(notes: Sequence[Note]) -> list[ChatKeys]:
    """Return the chats in which something has ended."""
    members = (name.split(" ") for what, name, *_ in notes if what == "end")
    return list(dict.fromkeys(ChatKeys(tenant, chat_id) for tenant, chat_id, _ in members))


def _publish_all(taken: Sequence[Taken]) -> Operation[int]:
    for i, one in enumerate(taken):
        tenant, chat_id, generation_id = one.member.split(" ")
        try:
            yield from Publish(tenant, chat_id, generation_id, one.queue, one.task)
        except EnqueueFailed:
            with suppress(StoreError):  # then the sweep finds them
                yield from note(*(("wait", left.member) for left in taken[i:]))
            raise
    return len(taken)
