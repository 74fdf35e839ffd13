"""What web apps, workers and Flower send to Redis, a command of each kind: to ask beforehand whether they may."""

from __future__ import annotations

from typing import Final, Literal, get_args

from chunkspool.settings import Settings
from chunkspool.store.keys import ChatKeys, QueueKeys
from chunkspool.store.rights import Probe, log_commands
from chunkspool.urls.redis_url import parse_redis_url

Role = Literal["web", "worker", "flower"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""The kinds of processes; docs/security.md has a Redis user for each."""
_NOT_OF_WORKERS = {"ZRANK"}
"""What only web apps do: status."""
_NOT_OF_WEB_APPS = {"EXPIRE", "HEXISTS", "LPUSH", "LTRIM"}
"""What only workers do: write answers, and set messages aside that no task can run."""
_SHA = "0" * 40
_NODE = "rights@worker.celery.pidbox"
_REPLIES = "rights.reply.celery.pidbox"
_EVENTS = "celeryev.rights"


def probes_of(role: Role, settings: Settings, db: int | None, *, logs: bool) -> tuple[Probe, ...]:
    """Return what a role sends to one server: `logs`, whether it holds them; `db`, the broker's number if it is that.

    Everything that is said to the broker is said of the settings' queue.
    """
    if role == "web":
        return (web_log_probes(settings) if logs else ()) + web_queue_probes(settings, db)
    is_worker = role == "worker"
    own = log_probes(settings) if is_worker and logs else ()
    queue = queue_probes(settings, db, worker=is_worker)
    return own + queue + commands_probes(db, worker=is_worker) + events_probes(db, worker=is_worker)


def web_log_probes(settings: Settings) -> tuple[Probe, ...]:
    """Return what a web app sends to the Redis of the logs."""
    keys = ChatKeys("chunkspool", "rights", parse_redis_url(settings.log.redis_url).db)
    return (
        *_plain("PING", "EXEC", "TIME", "UNSUBSCRIBE", f"EVALSHA {_SHA} 0"),
        Probe(("EVAL", "return 1", 0)),
        *(one for one in log_commands(keys.seq) if one.words[0] not in _NOT_OF_WEB_APPS),
        Probe(("PUBLISH", keys.stops, ""), "&cs:*"),
        Probe(("SUBSCRIBE", keys.live), "&cs:*"),
    )


def web_queue_probes(settings: Settings, db: int | None) -> tuple[Probe, ...]:
    """Return what puts messages into the queue. `db`: None without a Redis."""
    if db is None:
        return ()
    queue = settings.worker.queue
    binding = f"_kombu.binding.{queue}"
    return (
        *_plain("PING"),
        Probe(("LPUSH", queue, "1"), f"%W~{queue}*"),
        Probe(("LLEN", queue), f"%W~{queue}*"),
        Probe(("SADD", binding, "m"), f"~_kombu.binding*.{queue}"),
    )


def log_probes(settings: Settings) -> tuple[Probe, ...]:
    """Return what a worker sends to the Redis of the logs."""
    db = parse_redis_url(settings.log.redis_url).db
    keys = ChatKeys("chunkspool", "rights", db)
    return (
        *_plain("PING", "EXEC", "TIME", "UNSUBSCRIBE", f"EVALSHA {_SHA} 0"),
        Probe(("EVAL", "return 1", 0)),
        *(one for one in log_commands(keys.seq) if one.words[0] not in _NOT_OF_WORKERS),
        Probe(("PUBLISH", keys.live, ""), "&cs:*"),
        Probe(("SUBSCRIBE", keys.stops), "&cs:*"),
    )


def queue_probes(settings: Settings, db: int | None, *, worker: bool = True) -> tuple[Probe, ...]:
    """Return what takes messages from the queue, or, for Flower, counts them. `db`: None without a Redis."""
    if db is None:
        return ()
    queue = settings.worker.queue
    if not worker:
        return (Probe(("LLEN", queue), f"%R~{queue}*"),)
    held = QueueKeys(queue).unacked(settings.worker.redelivery)
    keys = f"~{queue}*"
    texts = {
        queue: ("LLEN k", "LPUSH k 1", "RPUSH k 1", "BRPOP k 1", "EXISTS k"),
        held["unacked_key"]: ("HSET k f 1", "HGET k f", "HDEL k f", "WATCH k"),
        held["unacked_index_key"]: ("ZADD k 1 m", "ZREM k m", "ZRANGE k 0 1"),
        held["unacked_mutex_key"]: ("SET k 1", "GET k", "DEL k", "PTTL k"),
    }
    rule = keys if queue == "chunkspool" else f"{keys} ~chunkspool.unacked*"
    return (*_plain("UNWATCH"), *(Probe(_words(text, key), rule) for key, of_key in texts.items() for text in of_key))


def commands_probes(db: int | None, *, worker: bool = True) -> tuple[Probe, ...]:
    """Return what sends Celery's commands (revoke, ping, inspect) and receives the replies, as workers do, too."""
    if db is None:
        return ()
    boxes = "~*.celery.pidbox*" if worker else "~*.reply.celery.pidbox*"
    table = "_kombu.binding.reply.celery.pidbox"
    return (
        *_plain("PING", "EXEC", "TIME", "SCRIPT LOAD return", f"SCRIPT EXISTS {_SHA}", f"EVALSHA {_SHA} 0"),
        *(Probe(_words(text, table), "~_kombu.binding*") for text in ("SADD k m", "SREM k m", "EXISTS k", "DEL k")),
        *(
            Probe(_words(text, "_kombu.binding_deadlines"), "~_kombu.binding*")
            for text in ("ZADD k 1 m", "ZRANGEBYSCORE k 0 1", "ZREM k m")
        ),
        *(Probe(_words(text, _REPLIES), boxes) for text in ("LLEN k", "DEL k", "BRPOP k 1")),
        Probe(("PUBLISH", f"/{db}.celery.pidbox", ""), f"&/{db}.celery.pidbox"),
    )


def events_probes(db: int | None, *, worker: bool = False) -> tuple[Probe, ...]:
    """Return what follows Celery's events; a worker sends them, too, and has a mailbox."""
    if db is None:
        return ()
    queue = (Probe(("LLEN", _EVENTS), "~celeryev.*"), Probe(("DEL", _EVENTS), "~celeryev.*"))
    if not worker:
        every = f"/{db}.celeryev/*"
        return (*queue, Probe(("PSUBSCRIBE", every), f"&{every}"), *_plain("PUNSUBSCRIBE"))
    of_workers, of_tasks = f"/{db}.celeryev/worker.*", f"/{db}.celeryev/task.*"
    return (
        *queue,
        *(Probe(_words(text, _NODE), "~*.celery.pidbox*") for text in ("LLEN k", "DEL k", "LPUSH k 1")),
        Probe(("SMEMBERS", "_kombu.binding.reply.celery.pidbox"), "~_kombu.binding*"),
        Probe(("PSUBSCRIBE", f"/{db}.celery.pidbox"), f"&/{db}.celery.pidbox"),
        Probe(("PSUBSCRIBE", of_workers), f"&{of_workers}"),
        Probe(("PUBLISH", of_tasks.replace("*", "multi"), ""), f"&{of_tasks}"),
        *_plain("PUNSUBSCRIBE"),
    )


def _plain(*texts: str) -> tuple[Probe, ...]:
    return tuple(Probe(tuple(text.split())) for text in texts)


def _words(text: str, key: str) -> tuple[str, ...]:
    """Return the words of a command; `k` stands for the key."""
    return tuple(key if word == "k" else word for word in text.split())
