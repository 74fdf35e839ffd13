"""What Redis and Valkey say, collected from real servers: each reply is told as what it is, final or passing."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import (
    BusyLoadingError,
    InvalidResponse,
    MaxConnectionsError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as Unreachable,
)
from redis.exceptions import (
    TimeoutError as TooSlow,
)
from redis.sentinel import MasterNotFoundError

from chunkspool.errors import (
    ChunkspoolError,
    CorruptLog,
    RightMissing,
    StoreBusy,
    StoreFull,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
)
from chunkspool.store.translate import translate

Kind = type[ChunkspoolError]
REPLIES: tuple[tuple[str, Kind, str], ...] = (
    # Final: who may connect
    ("NOAUTH Authentication required.", StoreRefused, "check the URL, the user and the password"),
    ("NOAUTH HELLO must be called with the client already authenticated, otherwise …", StoreRefused, "the password"),
    ("WRONGPASS invalid username-password pair or user is disabled.", StoreRefused, "the password"),
    ("ERR invalid password", StoreRefused, "the password"),
    ("ERR Client sent AUTH, but no password is set", StoreRefused, "the password"),
    (
        "ERR AUTH <password> called without any password configured for the default user. Are you sure …?",
        StoreRefused,
        "the password",
    ),
    (
        "DENIED Redis is running in protected mode because …",
        StoreRefused,
        "protected mode",
    ),
    # Final: what the user may do, of Redis 6.2 and 7.0, then of Redis 7.2 and Valkey
    ("NOPERM this user has no permissions to run the 'evalsha' command", RightMissing, "write +evalsha into its ACL"),
    (
        "NOPERM this user has no permissions to run the 'set' command or its subcommand",
        RightMissing,
        "may not run the command set; write +set into its ACL",
    ),
    (
        "NOPERM this user has no permissions to access one of the keys used as arguments",
        RightMissing,
        "write ~cs:* into",
    ),
    (
        "NOPERM this user has no permissions to access one of the channels used as arguments",
        RightMissing,
        "write &cs:*",
    ),
    ("NOPERM User READONLY has no permissions to run the 'config|get' command", RightMissing, "write +config|get into"),
    ("NOPERM User channel has no permissions to run the 'xadd' command", RightMissing, "write +xadd into its ACL"),
    ("NOPERM No permissions to access a key", RightMissing, "write ~cs:* into its ACL"),
    ("NOPERM No permissions to access a channel", RightMissing, "write &cs:* into its ACL"),
    ("ERR EXEC without MULTI", RightMissing, "write +multi +exec into its ACL"),
    # Final: what the server is
    (
        "ERR unknown command 'EVALSHA', with args beginning with: 'OOM' 'READONLY' ",
        StoreRefused,
        "Redis 6.2 or newer",
    ),
    ("ERR unknown command `HELLO`, with args beginning with: `3`, ", StoreRefused, "Redis 6.2 or newer"),
    ("ERR unknown subcommand 'NOPE'. Try XINFO HELP.", StoreRefused, "Redis 6.2 or newer"),
    ("ERR wrong number of arguments for 'xadd' command", StoreRefused, "Redis 6.2 or newer"),
    ("ERR syntax error", StoreRefused, "Redis 6.2 or newer"),
    ("ERR This Redis command is not allowed from script", StoreRefused, "Redis 6.2 or newer"),
    ("ERR Unknown Redis command called from script", StoreRefused, "Redis 6.2 or newer"),
    ("ERR Unknown command called from script", StoreRefused, "Redis 6.2 or newer"),
    ("ERR Wrong number of args calling Redis command from script", StoreRefused, "Redis 6.2 or newer"),
    ("ERR Command is not available: 'EVALSHA'. See the documentation", StoreRefused, "Redis 6.2 or newer"),
    ("NOPROTO unsupported protocol version", StoreRefused, "Redis 6.2 or newer"),
    ("ERR DB index is out of range", StoreRefused, "no database of the number"),
    ("ERR SELECT is not allowed in cluster mode", StoreRefused, "no database of the number"),
    ("ERR Script attempted to access a non local key in a cluster node", StoreRefused, "one node of a Redis Cluster"),
    ("MOVED 15495 127.0.0.1:20328", StoreRefused, "one node of a Redis Cluster"),
    ("ASK 3300 127.0.0.1:20328", StoreRefused, "one node of a Redis Cluster"),
    ("CROSSSLOT Keys in request don't hash to the same slot", StoreRefused, "one node of a Redis Cluster"),
    # Final: what it holds
    ("WRONGTYPE Operation against a key holding the wrong kind of value", CorruptLog, "another program wrote a key"),
    ("ERR value is not an integer or out of range", CorruptLog, "changed the counter"),
    ("ERR hash value is not an integer", CorruptLog, "changed the counter"),
    ("ERR increment or decrement would overflow", CorruptLog, "changed the counter"),
    (
        "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        CorruptLog,
        "changed the counter or the log",
    ),
    # Passing, when there is memory again
    ("OOM command not allowed when used memory > 'maxmemory'.", StoreFull, "Redis is full, so nothing was written"),
    # Passing: it is not the primary, or not yet ready
    ("READONLY You can't write against a read only replica.", StoreNotReady, "a read-only replica"),
    (
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        StoreNotReady,
        "a replica that has lost its primary",
    ),
    ("LOADING Redis is loading the dataset in memory", StoreNotReady, "still loading its data"),
    ("LOADING Valkey is loading the dataset in memory", StoreNotReady, "still loading its data"),
    (
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        StoreNotReady,
        "changing its role",
    ),
    ("ERR EVALSHA not allowed during failover", StoreNotReady, "changing its role"),
    ("ERR REPLICAOF not allowed while failing over.", StoreNotReady, "changing its role"),
    # Passing: it refuses for now
    (
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands …",
        StoreUnavailable,
        "until it can save a snapshot again",
    ),
    ("MISCONF Errors writing to the AOF file: No space left on device", StoreUnavailable, "look at its disk"),
    ("NOREPLICAS Not enough good replicas to write.", StoreUnavailable, "min-replicas-to-write"),
    (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        StoreUnavailable,
        "busy with a script",
    ),
    (
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait …",
        StoreUnavailable,
        "busy with a script",
    ),
    ("CLUSTERDOWN Hash slot not served", StoreUnavailable, "the Redis Cluster does not serve this key"),
    ("CLUSTERDOWN The cluster is down", StoreUnavailable, "the Redis Cluster does not serve this key"),
    ("TRYAGAIN Multiple keys request during rehashing of slot", StoreUnavailable, "is moving this key"),
    ("IOERR error or timeout reading to target instance", StoreUnavailable, "could not reach another server"),
    ("EXECABORT Transaction discarded because of previous errors.", StoreUnavailable, "refuses it for now"),
    ("ERR Script killed by user with SCRIPT KILL...", StoreUnavailable, "refuses it for now"),
    ("ERR max number of clients reached", StoreUnavailable, "takes no more connections (maxclients)"),
    ("NOSCRIPT No matching script. Please use EVAL.", StoreUnavailable, "refuses it for now"),
    # Nobody knows them: they pass
    ("ERR a sentence of next year's Redis", StoreUnavailable, "refuses it for now"),
    ("NEWCODE of next year's Redis", StoreUnavailable, "refuses it for now"),
)
PROMPT = "NOAUTH READONLY WRONGTYPE OOM not an integer, unknown command"
"""What a user may have written: it stands in what redis-py says of a pipeline."""
SHA = "219bb33e7c6773035c720850383aa2ebb63d9904"


def direct(reply: str) -> Exception:
    """Return what redis-py makes of the reply to a single command."""
    return BaseParser.parse_error(reply)


def in_a_pipeline(reply: str) -> Exception:
    """Return what it makes of a reply in a pipeline or a MULTI."""
    error = BaseParser.parse_error(reply)
    Redis().pipeline().annotate_exception(error, 1, ("EVALSHA", SHA, PROMPT))
    return error


def aborts_exec(reply: str) -> Exception:
    """Return what comes where EXEC itself is refused."""
    return BaseParser.parse_error(f"EXECABORT Transaction discarded because of: {reply}")


def in_a_script_of_redis_6(reply: str) -> Exception:
    """Return what Redis 6.2 says of a command in a script."""
    return in_a_pipeline(f"ERR Error running script (call to f_{SHA}): @user_script:57: @user_script: 57: -{reply}")


def in_a_script_of_redis_7(reply: str) -> Exception:
    """Return what Redis 7 says of a command in a script."""
    return BaseParser.parse_error(f"{reply} script: {SHA}, on @user_script:57.")


def in_a_script_of_valkey(reply: str) -> Exception:
    """Return what Valkey says of a command in a script."""
    return in_a_pipeline(f"{reply} script: on @user_script:57.")


WAYS = (direct, in_a_pipeline, aborts_exec, in_a_script_of_redis_6, in_a_script_of_redis_7, in_a_script_of_valkey)


def name_of(value: object) -> str:
    """Return what a case is called."""
    return str(getattr(value, "__name__", value))[:40]


CASES = [
    (way, *row)
    for way in WAYS
    for row in REPLIES
    if not (row[0].startswith(("MOVED", "ASK")) and "script" in way.__name__)  # a script gets "non local key" instead
]


@pytest.mark.parametrize(("way", "reply", "kind", "said"), CASES, ids=name_of)
def test_a_reply_is_told_as_what_it_is(way: Callable[[str], Exception], reply: str, kind: Kind, said: str) -> None:
    """Whichever way it comes, and without what the user had written."""
    error = translate(way(reply))
    assert type(error) is kind
    assert said in str(error)
    assert PROMPT not in str(error)


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("ERR The user executing the script can't run this command or subcommand", "+@read +@write +publish +time"),
        ("ERR The user executing the script can't publish to the channel mentioned in the command", "&cs:*"),
        ("ERR The user executing the script can't access at least one of the keys mentioned in the command …", "~cs:*"),
        ("ERR ACL failure in script: No permissions to access a channel", "&cs:*"),
        ("ERR ACL failure in script: No permissions to access a key", "~cs:*"),
        ("ERR ACL failure in script: User OOM has no permissions to run the 'xadd' command", "+xadd"),
    ],
)
def test_a_script_names_the_missing_right(reply: str, right: str) -> None:
    """There Redis 7 says ERR, not NOPERM, and Redis 7.0 not which command it was."""
    for way in (in_a_script_of_redis_7, in_a_script_of_valkey):
        error = translate(way(reply))
        assert type(error) is RightMissing
        assert error.right == right
        assert f"; write {right} into its ACL" in str(error)


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            Unreachable("Error 111 connecting to 127.0.0.1:1. Connection refused."),
            StoreUnavailable,
            "cannot be reached",
        ),
        (Unreachable("Error -2 connecting to no.invalid:1. Name or service not known."), StoreUnavailable, "reached"),
        # A host may have any name.
        (Unreachable("Error 111 connecting to my-failover-NOAUTH:1. Refused."), StoreUnavailable, "cannot be reached"),
        (Unreachable("Connection closed by server."), StoreUnavailable, "cannot be reached"),
        (TooSlow("Timeout reading from socket"), StoreUnavailable, "cannot be reached"),
        (ConnectionResetError(104, "Connection reset by peer"), StoreUnavailable, "cannot be reached"),
        (TimeoutError(), StoreUnavailable, "TimeoutError"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2427)"), StoreUnavailable, "be reached"),
        (
            Unreachable(
                "Error 1 connecting to localhost:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: "
                "self-signed certificate (_ssl.c:1006)."
            ),
            StoreRefused,
            "it was told nothing; its certificate is signed by nobody, or by an authority that is not in ssl_ca_certs",
        ),
        (
            Unreachable(
                "Error while reading from localhost:1 : (1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert "
                "certificate required (_ssl.c:2580)')"
            ),
            StoreRefused,
            "a certificate or the port is wrong",
        ),
        (
            Unreachable("Error 1 connecting to h:1. [SSL: WRONG_VERSION_NUMBER] wrong …"),
            StoreRefused,
            "the port is wrong",
        ),
        (InvalidResponse("Protocol error, got 'H' as reply type byte"), StoreRefused, "is not a Redis"),
        (BusyLoadingError("Redis is loading the dataset in memory", status_code="LOADING"), StoreNotReady, "loading"),
        (MasterNotFoundError("No master found for 'mymaster'"), StoreNotReady, "changing its role"),
        (Unreachable("The previous master is now a slave"), StoreNotReady, "changing its role"),
        (Unreachable("Invalid Database"), StoreRefused, "no database of the number in the URL"),
        (Unreachable("Invalid RESP version"), StoreRefused, "Redis 6.2 or newer"),
        (MaxConnectionsError("Too many connections"), StoreBusy, "no connection to Redis is free"),
        (Unreachable("No connection available."), StoreBusy, "no connection to Redis is free"),
        (RedisError("of a kind that nobody knows"), StoreUnavailable, "cannot be reached"),
    ],
    ids=name_of,
)
def test_a_connection_that_fails(error: Exception, kind: Kind, said: str) -> None:
    """What redis-py and the operating system say where no reply comes."""
    told = translate(error)
    assert type(told) is kind
    assert said in str(told)
