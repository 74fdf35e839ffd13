"""Judges the queue: whether its messages come to workers, and to nobody else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.broker_reading import Held, OtherBroker, QueueFacts
from chunkspool.doctor.finding import Finding
from chunkspool.doctor.redis_checks import unanswered

GROUP: Final = "broker"
GRACE_SECONDS: Final = 5.0
"""A worker looks for messages of dead ones every second; what stands there for longer is not on its way."""

_make = partial(Finding, GROUP)


def check_queue(facts: QueueFacts, *, served: bool | None) -> Iterator[Finding]:
    """Yield what there is to say of a queue in a Redis. `served`: by a worker that answers; None where unknown."""
    yield _check_waiting(facts.queue, facts.waiting, served=served)
    yield from _check_held(facts)
    yield _check_other_apps(facts)
    yield _check_bound(facts)
    yield _check_set_aside(facts)


def check_other_broker(facts: OtherBroker) -> Iterator[Finding]:
    """Yield the same for RabbitMQ, which itself looks after what workers hold."""
    yield _check_waiting(facts.queue, facts.waiting, served=facts.consumers > 0)


def _check_waiting(queue: str, waiting: int | Unanswered, *, served: bool | None) -> Finding:
    if isinstance(waiting, Unanswered) and "WRONGTYPE" in waiting.why:
        advice = f"let the other program use another name, and DEL {queue}: no message can be put there"
        return _make("error", "queue", f"{queue} is a key of another program, and no list", advice)
    if isinstance(waiting, Unanswered):
        return unanswered(GROUP, "queue", f"how many messages wait in {queue}", waiting)
    found = f"{queue}: {waiting} waiting"
    if served is False and waiting:
        advice = f"start a worker for it (chunkspool worker -Q {queue}): nobody takes these messages"
        return _make("error", "queue", f"{found}, and no worker serves it", advice)
    return _make("ok", "queue", found)


def _check_held(facts: QueueFacts) -> Iterator[Finding]:
    if isinstance(facts.held, Unanswered):
        yield unanswered(GROUP, "unacknowledged", f"which messages of {facts.queue} workers hold", facts.held)
        return
    late = [one for one in facts.held if one.count and one.oldest > one.seconds + GRACE_SECONDS]
    yield from map(partial(_tell_late, facts.queue), late)
    if not late:
        yield _make("ok", "unacknowledged", f"{facts.queue}: none is older than its visibility time-out")


def _tell_late(queue: str, held: Held) -> Finding:
    found = f"{queue}: {held.count} not renewed for {held.oldest:.0f} s, the time-out is {held.seconds:g} s"
    advice = (
        f"start a worker with CHUNKSPOOL_REDELIVERY={held.seconds:g}, and compare the machines' clocks: the worker "
        "that held them is dead, and none is there that would deliver them again"
    )
    return _make("error", "unacknowledged", found, advice)


def _check_other_apps(facts: QueueFacts) -> Finding:
    if isinstance(facts.held_by_others, Unanswered) or isinstance(facts.other_apps, Unanswered):
        answer = facts.held_by_others if isinstance(facts.held_by_others, Unanswered) else Unanswered("")
        return unanswered(GROUP, "other apps", "whether others take messages of the queue", answer)
    if facts.held_by_others:
        advice = (
            f"take {facts.queue} from the -Q of workers without chunkspool, or equip them (chunkspool.worker.equip): "
            "when such a worker dies, its generations stand still for an hour"
        )
        found = f"{facts.held_by_others} messages of {facts.queue} are held by a worker without chunkspool"
        return _make("error", "other apps", found, advice)
    if facts.other_apps:
        return _make("ok", "other apps", f"they hold {facts.other_apps} messages of their own in this database")
    return _make("ok", "other apps", "none holds messages in this database")


def _check_bound(facts: QueueFacts) -> Finding:
    if isinstance(facts.bound, Unanswered):
        return unanswered(GROUP, "bindings", "which queues get the messages", facts.bound)
    if facts.bound:
        names = ", ".join(facts.bound)
        advice = (
            f"give the other app an exchange of its own, then SREM its line from _kombu.binding.{facts.queue}: each "
            "generation is also sent to that queue, and runs or waits there"
        )
        return _make("error", "bindings", f"{names} gets a copy of each message of {facts.queue}", advice)
    return _make("ok", "bindings", f"{facts.queue} is the only queue that gets its messages")


def _check_set_aside(facts: QueueFacts) -> Finding:
    if isinstance(facts.set_aside, Unanswered):
        return unanswered(GROUP, "set aside", "how many messages were set aside", facts.set_aside)
    if facts.set_aside:
        advice = (
            f"read them (LRANGE cs:{{index}}:dead_letters:{facts.queue} 0 -1) and mend who sends them, or import the "
            "task in the workers: no worker could run them"
        )
        return _make("warning", "set aside", f"{facts.set_aside} messages of {facts.queue}", advice)
    return _make("ok", "set aside", "none")
