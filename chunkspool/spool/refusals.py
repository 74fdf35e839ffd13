"""Tells a broker that rejects us from one that is away, and names what it wants: only a person can mend that."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import closing

from redis.exceptions import RedisError

from chunkspool.errors import RightMissing, StoreRefused, without_password
from chunkspool.store.client import connect
from chunkspool.store.rights import Probe, missing_rights
from chunkspool.store.translate import translate

_OF_RABBITMQ = frozenset({"AccessRefused", "NotAllowed"})
"""amqp's errors for a wrong password, a missing right, an unknown vhost. By name: not every app has the package."""


def publishing(queue: str) -> tuple[Probe, ...]:
    """Return what kombu sends to publish to a queue, with the rules for its keys."""
    messages, bindings = f"%W~{queue}*", f"~_kombu.binding*.{queue}"
    return (
        Probe(("PING",)),
        Probe(("EXEC",)),
        Probe(("LLEN", queue), messages),
        Probe(("SADD", f"_kombu.binding.{queue}", ""), bindings),
        Probe(("SADD", f"_kombu.binding_permanent.{queue}", ""), bindings),
        Probe(("LPUSH", queue, ""), messages),
    )


def explain_broker(error: Exception, broker: str, queue: str) -> tuple[str, str] | None:
    """Return why the broker rejects us, and the ACL rules that its user lacks; None for one that is merely away.

    `broker` is its URL, or "" where it is not known: what is missing is then told in Redis's words.
    """
    refused = refused_right(error)
    if refused is not None:
        return _explain_right(refused, broker, queue)
    for one in _chain(error):
        if isinstance(one, RedisError):
            told = translate(one)
            if isinstance(told, StoreRefused):
                return without_password(str(told)), ""
        elif isinstance(one, ssl.SSLCertVerificationError) or type(one).__name__ in _OF_RABBITMQ:
            return without_password(str(one)), ""
    return None


def refused_right(error: BaseException) -> RedisError | None:
    """Return Redis's own error if a right was refused, wherever in the chain of causes it is."""
    found = (one for one in _chain(error) if isinstance(one, RedisError))
    return next((one for one in found if isinstance(translate(one), RightMissing)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what it comes from; kombu wraps some errors into its own."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _explain_right(error: RedisError, broker: str, queue: str) -> tuple[str, str]:
    right = " ".join(_ask(broker, queue)) if broker else ""
    hint = f"write {right} into its ACL" if right else "see docs/how-to/run/security.md"
    # Without the arguments, which redis-py quotes.
    said = str(error).rpartition(" of pipeline caused error: ")[2]
    return f"Redis rejected the user, who lacks a right to publish to the queue {queue!r}; {hint}: {said}", right


def _ask(broker: str, queue: str) -> tuple[str, ...]:
    try:
        with closing(connect(broker)) as client:
            return missing_rights(client, publishing(queue))
    except (RedisError, OSError):
        return ()  # it has gone away meanwhile
