"""Says in Celery's words where the broker is, and how it is verified: for the worker, Flower and the dispatcher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlsplit

from chunkspool.urls.redis_url import SCHEMES, WRITE, RedisUrl, parse_redis_url, spell_address

_AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
OTHER_BROKERS = _AMQP | {
    *("azureservicebus", "azurestoragequeues", "confluentkafka", "consul", "etcd", "filesystem", "gcpubsub", "kafka"),
    *("memory", "mongodb", "pgmq", "pyro", "qpid", "slmq", "sqla", "sqlalchemy", "sqs", "zookeeper"),
}
"""kombu's transports other than Redis. They read their URLs themselves."""


@dataclass(frozen=True, slots=True)
class CeleryBroker:
    """A broker as Celery's settings name it: `broker_url`, `broker_use_ssl`, `broker_transport_options`."""

    url: str = field(repr=False)
    is_redis: bool = False
    use_ssl: dict[str, Any] | None = None
    transport_options: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read a URL of any broker. Raises `ValueError`: one sentence that shows nothing of a password."""
        found = [_scheme_of(one) for one in url.split(";")]
        if found[0] in SCHEMES:
            return cls._from_redis(parse_redis_url(url))
        if "sentinel" in found:
            raise ValueError("write redis+sentinel://host:port,host:port/service/db, with the service that it watches")
        if found[0] not in OTHER_BROKERS:
            raise ValueError(
                f"write amqp://user:password@host:port/vhost, another URL that Celery knows, or a Redis URL: {WRITE}"
            )
        if SCHEMES.intersection(found):
            raise ValueError("a list of brokers cannot have a Redis in it")
        if found[0] in _AMQP:
            _check_amqp(url)
        if set(found) == {"amqps"}:
            # Otherwise the certificate may be that of any host. None: kombu takes the host of the URL.
            return cls(url, use_ssl={"server_hostname": None})
        return cls(url)

    @classmethod
    def _from_redis(cls, redis: RedisUrl) -> Self:
        options: dict[str, Any] = dict(redis.name_option())
        if redis.path:
            url = f"redis+socket://{redis.credentials()}{quote(redis.path)}?virtual_host={redis.db}"
        elif redis.service:
            options |= {"master_name": redis.service, "sentinel_kwargs": redis.sentinel_options()}
            # All of it in each URL: after an error, kombu goes on with the next one alone.
            urls = (f"{redis.credentials()}{spell_address(one)}/{redis.db}" for one in redis.addresses)
            url = ";".join(f"sentinel://{one}" for one in urls)
        else:
            url = redis.server_url()
        use_ssl = None if redis.tls is None else redis.tls.options()
        return cls(url, is_redis=True, use_ssl=use_ssl, transport_options=options)


def _scheme_of(url: str) -> str:
    before, divided, _ = url.strip().partition("://")
    scheme = before.lower() if divided else ""
    return scheme if scheme in SCHEMES else scheme.partition("+")[0]  # as in sqla+postgresql://


def _check_amqp(url: str) -> None:
    # kombu would raise a ValueError later that quotes the piece of a password that it took for the port.
    for one in url.split(";"):
        try:
            fine = urlsplit(one).port != 0
        except ValueError:
            fine = False
        if not fine:
            raise ValueError("write amqp://user:password@host:port/vhost, a / or @ of the password as %2F or %40")
