"""Judges a Redis: what an operator would change before it holds chats that must not be lost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.finding import Finding, Level, Subject
from chunkspool.doctor.redis_reading import RedisFacts
from chunkspool.urls.redis_url import RedisUrl, spell_place

ASK_AS_ADMINISTRATOR: Final = (
    "run doctor once more with an administrator's URL in CHUNKSPOOL_REDIS_URL (and CHUNKSPOOL_BROKER_URL); where a "
    "managed Redis answers nobody, look it up in its provider's console"
)
OLDEST, OLDEST_WITH_ROLES = (6, 2), (7, 0)
NEARLY_FULL, FULL = 0.75, 0.9
CONNECTIONS_NEARLY_FULL: Final = 0.8
CLOCK_SECONDS: Final = 1.0
SLOW_SECONDS, VERY_SLOW_SECONDS = 0.01, 0.1
LAG_SECONDS: Final = 10
PUBSUB_BYTES: Final = 32 * 1024**2
"""Redis's own default."""
_MB: Final = 1024**2

Make = Callable[..., Finding]


def check_redis(facts: RedisFacts, redelivery: float) -> Iterator[Finding]:
    """Yield what there is to say of a server. `redelivery` (seconds): how far clocks may be apart at all."""
    yield _check_tls(facts)
    yield _check_rights(facts)
    yield from _check_users(facts)
    yield _check_open_door(facts)
    yield _check_clock(facts, redelivery)
    yield _check_latency(facts)
    if isinstance(facts.info, Unanswered):
        yield unanswered(facts.group, "info", "INFO (version, persistence, memory, replicas)", facts.info)
    else:
        yield from _check_info(facts, facts.info)
    if isinstance(facts.config, Unanswered):
        yield unanswered(facts.group, "config", "CONFIG GET (snapshots, min-replicas, buffers)", facts.config)
    else:
        yield check_pubsub_buffer(facts.group, facts.config)


def unanswered(group: str, subject: Subject, question: str, answer: Unanswered) -> Finding:
    """Return the finding that something could not be found out."""
    return Finding(group, "warning", subject, f"{question} was not answered: {answer.why}", ASK_AS_ADMINISTRATOR)


def unreachable(group: str, answer: Unanswered) -> Finding:
    """Return the finding that a server does not answer at all."""
    advice = "start it, or mend the URL, its user and its password: without it nothing can be asked, run or read"
    return Finding(group, "error", "reachable", answer.why, advice)


def is_local(url: RedisUrl) -> bool:
    """Tell whether what is said to the server stays on this machine."""
    hosts = [host for host, _ in url.addresses]
    return bool(url.path) or all(host in {"localhost", "::1"} or host.startswith("127.") for host in hosts)


def _check_info(facts: RedisFacts, info: Mapping[str, Any]) -> Iterator[Finding]:
    config = {} if isinstance(facts.config, Unanswered) else facts.config
    yield check_version(facts.group, info)
    yield _check_cluster(facts.group, info)
    yield check_persistence(facts.group, info, config)
    yield from _check_last_writes(facts.group, info)
    yield _check_eviction(facts.group, info)
    yield check_memory(facts.group, info)
    yield _check_connections(facts.group, info)
    yield check_replicas(facts.group, info, config, sentinel=bool(facts.url.service))


def check_version(group: str, info: Mapping[str, Any]) -> Finding:
    """Judge the version; Valkey calls itself a Redis 7.2."""
    name = "Valkey" if "valkey_version" in info else "Redis"
    shown = f"{name} {info.get('valkey_version') or info.get('redis_version')}"
    make = partial(Finding, group)
    version = tuple(int(part) for part in str(info.get("redis_version", "0")).split(".")[:2] if part.isdigit())
    if version < OLDEST:
        return make("error", "version", shown, "upgrade to Redis 7 or Valkey: chunkspool's scripts need Redis 6.2")
    if version < OLDEST_WITH_ROLES:
        return make(
            "warning",
            "version",
            shown,
            "upgrade to Redis 7 or Valkey: here the web app's user cannot be kept from reading the queue",
        )
    return make("ok", "version", shown)


def check_persistence(group: str, info: Mapping[str, Any], config: Mapping[str, str]) -> Finding:
    """Judge what is left after a restart."""
    make = partial(Finding, group)
    if not int(info.get("aof_enabled", 0)):
        save = config.get("save")
        append = "CONFIG SET appendonly yes, then CONFIG REWRITE (or `appendonly yes` in redis.conf)"
        if save:
            found = f"snapshots only (save {save})"
            return make("warning", "persistence", found, f"{append}: a crash loses all since the last snapshot")
        found = "no append-only file" + (", no snapshots" if save is not None else "")
        return make("error", "persistence", found, f"{append}: a restart loses every chat and the queue")
    fsync = config.get("appendfsync", "")
    found = "append-only file" + (f", appendfsync {fsync}" if fsync else "")
    if fsync == "no":
        advice = "CONFIG SET appendfsync everysec: without, a machine that fails loses what its system had not written"
        return make("warning", "persistence", found, advice)
    return make("ok", "persistence", found)


def _check_last_writes(group: str, info: Mapping[str, Any]) -> Iterator[Finding]:
    names = ("rdb_last_bgsave_status", "aof_last_bgrewrite_status", "aof_last_write_status")
    failed = [name for name in names if info.get(name, "ok") != "ok"]
    if failed:
        advice = (
            "look at the server's log and its disk (space, rights): until it can write, it refuses writes or forgets"
        )
        yield Finding(group, "error", "disk", f"the last write to disk failed ({', '.join(failed)})", advice)


def _check_cluster(group: str, info: Mapping[str, Any]) -> Finding:
    make = partial(Finding, group)
    if int(info.get("cluster_enabled", 0)):
        advice = "use a Redis that holds all keys itself, with Sentinel or replicas: the queue's index is on one server"
        return make("error", "cluster", "a node of a Redis Cluster", advice)
    return make("ok", "cluster", "no cluster")


def _check_eviction(group: str, info: Mapping[str, Any]) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory", 0))
    if policy in {"noeviction", ""}:
        return Finding(group, "ok", "eviction", policy or "not told")
    advice = (
        "CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE: a Redis that is full would delete chats and "
        "messages without a word; so it refuses new ones, and says so"
    )
    return Finding(group, "error" if limit else "warning", "eviction", policy, advice)


def check_memory(group: str, info: Mapping[str, Any]) -> Finding:
    """Judge how much room is left."""
    make = partial(Finding, group)
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    machine = int(info.get("total_system_memory", 0))
    if not limit:
        advice = (
            "CONFIG SET maxmemory to about half of the machine's memory: at its end the system kills Redis, with a "
            "limit Redis refuses new requests and lives"
        )
        return make("warning", "memory", f"{_mb(used)} used, no maxmemory", advice)
    found = f"{_mb(used)} of {_mb(limit)} used"
    more = "raise maxmemory, or shorten CHUNKSPOOL_TTL or the tenants' limits: when it is full, nobody can ask"
    if used > FULL * limit:
        return make("error", "memory", found, more)
    if used > NEARLY_FULL * limit:
        return make("warning", "memory", found, more)
    if machine and limit > machine:
        advice = "lower maxmemory below the machine's memory: the system would kill Redis before that limit is met"
        return make("warning", "memory", f"{found}; the machine has {_mb(machine)}", advice)
    return make("ok", "memory", found)


def _check_connections(group: str, info: Mapping[str, Any]) -> Finding:
    used, limit = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    found = f"{used} of {limit or '?'} connections"
    if limit and used > CONNECTIONS_NEARLY_FULL * limit:
        advice = "raise maxclients (and the system's limit of open files): beyond it, workers and web apps are refused"
        return Finding(group, "warning", "connections", found, advice)
    return Finding(group, "ok", "connections", found)


def check_replicas(group: str, info: Mapping[str, Any], config: Mapping[str, str], *, sentinel: bool) -> Finding:
    """Judge replication: who has what was acknowledged, if this server dies."""
    make = partial(Finding, group)
    if info.get("role") != "master":
        advice = "name the primary in the URL, or redis+sentinel://: a replica takes no writes"
        return make("error", "replicas", f"a replica of {info.get('master_host')}:{info.get('master_port')}", advice)
    replicas = [one for name, one in info.items() if name.startswith("slave") and isinstance(one, Mapping)]
    behind = [one for one in replicas if one.get("state") != "online" or int(one.get("lag", 0)) > LAG_SECONDS]
    least = int(config.get("min-replicas-to-write", 0))
    found = f"{len(replicas)} of them, min-replicas-to-write {config.get('min-replicas-to-write', 'unknown')}"
    if least and len(replicas) - len(behind) < least:
        advice = f"start replicas until {least} follow, or lower min-replicas-to-write: now it refuses every write"
        return make("error", "replicas", found, advice)
    if behind:
        advice = "look at the replicas' logs and network: in a failover, what they have not got is lost"
        return make("warning", "replicas", f"{found}; {len(behind)} not in step", advice)
    if replicas and not least and config:
        advice = (
            "CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 10: a primary that has lost its replicas "
            "goes on taking writes, and a failover then loses them"
        )
        return make("warning", "replicas", found, advice)
    if sentinel and not replicas:
        return make("error", "replicas", found, "start a replica: Sentinel has nobody to make the next primary")
    return make("ok", "replicas", found if replicas else "none")


def check_pubsub_buffer(group: str, config: Mapping[str, str]) -> Finding:
    """Judge how far a web process may fall behind before Redis hangs up on it."""
    words = config.get("client-output-buffer-limit", "").split()
    limits = {words[i]: [int(word) for word in words[i + 1 : i + 4]] for i in range(0, len(words) - 3, 4)}
    hard, soft, seconds = limits.get("pubsub", [0, 0, 0])
    found = f"pubsub {hard} {soft} {seconds}"
    set_it = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'"
    if not hard:
        advice = f"{set_it}: without a limit, one web process that has stopped reading fills Redis's memory"
        return Finding(group, "warning", "output buffer", found, advice)
    if hard < PUBSUB_BYTES or 0 < soft < PUBSUB_BYTES // 4:
        advice = f"{set_it}: one connection carries all streams of a web process, and Redis closes it at a small burst"
        return Finding(group, "warning", "output buffer", found, advice)
    return Finding(group, "ok", "output buffer", found)


def _check_clock(facts: RedisFacts, redelivery: float) -> Finding:
    clock = facts.clock
    if isinstance(clock, Unanswered):
        return unanswered(facts.group, "clock", "TIME", clock)
    off = max(abs(clock.ahead) - clock.exact_to, 0.0)
    found = f"{clock.ahead:+.3f} s from this machine's (± {clock.exact_to:.3f} s)"
    if off < CLOCK_SECONDS:
        return Finding(facts.group, "ok", "clock", found)
    advice = (
        "run NTP (chrony, systemd-timesyncd) on both: messages of workers whose clocks differ are redelivered too "
        "early or too late, and tokens and states are dated wrongly"
    )
    return Finding(facts.group, "error" if off >= redelivery else "warning", "clock", found, advice)


def _check_latency(facts: RedisFacts) -> Finding:
    latency = facts.latency
    if isinstance(latency, Unanswered):
        return unanswered(facts.group, "latency", "PING", latency)
    found = f"median {latency.median * 1000:.1f} ms, longest {latency.longest * 1000:.1f} ms"
    if latency.median < SLOW_SECONDS:
        return Finding(facts.group, "ok", "latency", found)
    advice = (
        "bring Redis nearer, and look at SLOWLOG GET, its CPU and its swap: every request and every piece of an answer "
        "waits for this"
    )
    level: Level = "error" if latency.median >= VERY_SLOW_SECONDS else "warning"
    return Finding(facts.group, level, "latency", found, advice)


def _check_tls(facts: RedisFacts) -> Finding:
    make = partial(Finding, facts.group)
    where = spell_place(facts.url)
    if facts.url.tls is None:
        if is_local(facts.url):
            return make("ok", "tls", f"none, and none is needed: {where} is on this machine")
        advice = "write rediss:// and give the server a certificate: passwords, prompts and answers cross the network"
        return make("warning", "tls", f"none to {where}", advice)
    if facts.url.tls.cert_reqs != "required":
        advice = "remove ssl_cert_reqs and name the authority in ssl_ca_certs: anybody in between can read the password"
        return make("error", "tls", f"to {where}, unverified", advice)
    if not facts.url.tls.check_hostname:
        advice = "remove ssl_check_hostname: whoever has any certificate of that authority can pose as this server"
        return make("warning", "tls", f"to {where}, for any host name", advice)
    return make("ok", "tls", f"to {where}, verified")


def _check_rights(facts: RedisFacts) -> Finding:
    if isinstance(facts.missing, Unanswered):
        return unanswered(facts.group, "rights", "what the URL's user may do", facts.missing)
    return _judge_rights(facts.group, facts.url.username or "default", facts.missing, f"as {facts.role}")


def _check_users(facts: RedisFacts) -> Iterator[Finding]:
    if isinstance(facts.users, Unanswered):
        yield unanswered(facts.group, "rights", "ACL (the rights of other users)", facts.users)
        return
    for user, missing in facts.users.items():
        if user != facts.url.username:
            yield _judge_rights(facts.group, user, missing, "")


def _judge_rights(group: str, user: str, missing: Any, role: str) -> Finding:
    who = f"{user} {role}".strip()
    if not missing:
        return Finding(group, "ok", "rights", f"{who}: all that are needed")
    rules = " ".join(missing)
    advice = f"ACL SETUSER {user} {rules}, then ACL SAVE: what needs them fails, and its log names them"
    return Finding(group, "error", "rights", f"{who} lacks {rules}", advice)


def _check_open_door(facts: RedisFacts) -> Finding:
    if isinstance(facts.is_open, Unanswered):
        return unanswered(facts.group, "password", "ACL GETUSER default", facts.is_open)
    if not facts.is_open:
        return Finding(facts.group, "ok", "password", "nobody may do anything without one")
    advice = (
        "make a user for each role (the documentation has them), then ACL SETUSER default off: "
        "whoever reaches the port reads every chat and can erase them"
    )
    level: Level = "warning" if is_local(facts.url) else "error"
    return Finding(facts.group, level, "password", "the default user needs none and may do everything", advice)


def _mb(size: int) -> str:
    return f"{size / _MB:,.0f} MB"
