"""Stands for workers with more slots than any test needs, where a test is not about whose turn it is."""

from __future__ import annotations

from redis import Redis

from chunkspool.policy import Policy
from chunkspool.store.keys import QueueKeys
from chunkspool.store.schedule import WorkerSlots, schedule

SLOTS_KEY = "cs:{index}:slots:chunkspool"
_FOR_EVER = "100000 9007199254740991"


def offer_many_slots(client: Redis) -> None:
    """Have all messages of the default queue handed to the broker at once, whether or not a worker runs."""
    call = schedule(QueueKeys("chunkspool"), (), limits=Policy(), most=0, worker=WorkerSlots("nobody", 100_000))
    client.eval(call.script.text, len(call.keys), *call.keys, *call.args)
    client.hset(SLOTS_KEY, "nobody", _FOR_EVER)


def offer_no_slots(client: Redis) -> None:
    """Take that back: the test is about whose turn it is."""
    client.delete(SLOTS_KEY)
