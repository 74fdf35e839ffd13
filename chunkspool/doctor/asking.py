"""Asks with a time limit. What is not answered is a value that says why, and never an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import NoPermissionError, RedisError, ResponseError
from redis.exceptions import TimeoutError as TooSlow
from redis.retry import Retry

from chunkspool.errors import ChunkspoolError, without_password
from chunkspool.store.client import connect
from chunkspool.store.translate import translate

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Stands for an answer that was not given."""

    why: str


class RedisQuestions:
    """Questions to one Redis. A server that has once fallen silent is asked nothing more: all would take their time."""

    def __init__(self, url: str, seconds: float) -> None:
        """Connect with the first question; `seconds` is the limit of each."""
        self._client = connect(url)
        self._client.set_retry(Retry(NoBackoff(), 0))
        pool: Any = self._client.connection_pool
        pool.connection_kwargs |= {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        self._silent: Unanswered | None = None

    def ask(self, question: Callable[[redis.Redis], T]) -> T | Unanswered:
        """Return the answer."""
        if self._silent is not None:
            return self._silent
        try:
            return question(self._client)
        except (Unreachable, TooSlow, OSError) as error:
            self._silent = Unanswered(explain(error))
            return self._silent
        except (RedisError, ChunkspoolError) as error:
            return Unanswered(explain(error))

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def explain(error: Exception) -> str:
    """Return in one line why there was no answer, without passwords."""
    if isinstance(error, NoPermissionError):
        return f"the Redis user may not ask: {error}"
    if isinstance(error, ResponseError):
        return f"the server does not answer this: {error}"  # managed Redis has no CONFIG, an old one no ACL DRYRUN
    text = str(translate(error)) if isinstance(error, RedisError) else str(error) or type(error).__name__
    return without_password(" ".join(text.split()))


def within(seconds: float, work: Callable[[], T]) -> T | Unanswered:
    """Return what `work` returns, or why it did not within this time. It then goes on in its thread, unheard."""
    found: list[T | Unanswered] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 - whatever a broker or its client says is what there is to tell
            found.append(Unanswered(explain(error)))

    thread = threading.Thread(target=run, name="chunkspool-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else Unanswered(f"no answer within {seconds:g} seconds")
