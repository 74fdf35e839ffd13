"""A relay of outcomes that is killed after so many steps: `python killed_relay.py <url> <chat> <steps>`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from redis import Redis

from chunkspool.effects import drive
from chunkspool.operations.outcome_relay import relay
from chunkspool.settings import LogSettings
from chunkspool.store.client import Store
from chunkspool.store.keys import ChatKeys


def main(url: str, chat: str, steps: int) -> None:
    """Relay what is in the chat's outbox; die in front of the step after these."""
    store, done = Store(Redis.from_url(url)), 0

    def perform(effect: Any) -> object:
        nonlocal done
        if done == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return store.send(effect)

    drive(relay(ChatKeys("default", chat), LogSettings()), perform)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
