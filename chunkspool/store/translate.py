"""The border where Redis's errors become ours: a known list is final, everything else passes and may be tried again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    DataError,
    InvalidResponse,
    MaxConnectionsError,
    RedisError,
    ResponseError,
)
from redis.sentinel import MasterNotFoundError, SlaveNotFoundError

from chunkspool.errors import (
    ChunkspoolError,
    CorruptLog,
    StoreBusy,
    StoreFull,
    StoreNotReady,
    StoreRefused,
    StoreUnavailable,
)
from chunkspool.store.rights import explain_refusal

_REJECTED = "Redis rejected the connection; check the URL, the user and the password"
_UNABLE = "the server cannot do what chunkspool needs, Redis 6.2 or newer can"
_UNREACHABLE = "Redis cannot be reached; check that it runs where the URL says, then try again"
_NO_REDIS = "the server at this URL is not a Redis; check the URL"
_CLUSTER_NODE = "the server is one node of a Redis Cluster; use the URL of a Redis that holds all keys itself"
_NO_DATABASE = "the server has no database of the number in the URL"
_UNTRUSTED = "no TLS connection to Redis: a certificate or the port is wrong; check the URL and its ssl_ options"
_IMPOSTOR = "the server at this URL could not prove that it is our Redis, so it was told nothing; its certificate"
_FAULTS = {
    "self-signed": "is signed by nobody, or by an authority that is not in ssl_ca_certs",
    "local issuer": "is signed by an authority that is not in ssl_ca_certs",
    "expired": "has expired",
    "not yet valid": "is not valid yet",
    "mismatch": "is that of another host",
}
"""What OpenSSL says of a certificate, and what it means."""
_NO_CONNECTION = "no connection to Redis is free"
_REPLICA = "this Redis is a read-only replica; try again, or use the primary's URL"
_FAILOVER = "Redis is changing its role; try again"
_SCRIPT_RUNS = "Redis is busy with a script of somebody that does not end; wait, or end it with SCRIPT KILL"
_OTHER_TYPE = "another program wrote a key of another type there; delete it (WRONGTYPE)"
_PASSES = "Redis refuses it for now; try again"

_Make = Callable[[str], ChunkspoolError]


def _says(kind: type[ChunkspoolError], sentence: str) -> _Make:
    return lambda text: kind(f"{sentence}: {text}")


def _changed(text: str) -> ChunkspoolError:
    return CorruptLog(None, f"another program changed the counter or the log: {text}")


_BY_CODE: Mapping[str, _Make] = {
    # Final: nothing changes until somebody changes the URL, the server or its data.
    "NOAUTH": _says(StoreRefused, _REJECTED),
    "WRONGPASS": _says(StoreRefused, _REJECTED),
    "DENIED": _says(StoreRefused, "Redis rejected the connection: it is in protected mode, without a password"),
    "NOPERM": explain_refusal,
    "NOPROTO": _says(StoreRefused, _UNABLE),
    "MOVED": _says(StoreRefused, _CLUSTER_NODE),
    "ASK": _says(StoreRefused, _CLUSTER_NODE),
    "CROSSSLOT": _says(StoreRefused, _CLUSTER_NODE),
    "WRONGTYPE": lambda _text: CorruptLog(None, _OTHER_TYPE),
    # Passing, and each is told as what it is.
    "OOM": _says(StoreFull, "Redis is full, so nothing was written; free memory or raise maxmemory"),
    "READONLY": _says(StoreNotReady, _REPLICA),
    "MASTERDOWN": _says(StoreNotReady, "this Redis is a replica that has lost its primary; try again"),
    "LOADING": _says(StoreNotReady, "Redis is still loading its data; try again"),
    "UNBLOCKED": _says(StoreNotReady, _FAILOVER),
    "MISCONF": _says(
        StoreUnavailable, "Redis takes no writes until it can save a snapshot again; look at its disk and its log"
    ),
    "NOREPLICAS": _says(
        StoreUnavailable, "Redis takes no writes until more replicas are connected (min-replicas-to-write)"
    ),
    "BUSY": _says(StoreUnavailable, _SCRIPT_RUNS),
    "UNKILLABLE": _says(StoreUnavailable, _SCRIPT_RUNS),
    "CLUSTERDOWN": _says(StoreUnavailable, "the Redis Cluster does not serve this key at present; try again"),
    "TRYAGAIN": _says(StoreUnavailable, "the Redis Cluster is moving this key; try again"),
    "IOERR": _says(StoreUnavailable, "Redis could not reach another server that it needs for this; try again"),
}
"""What an error reply is told as, by its code word. Codes that only wrap another one (ERR, EXECABORT) are not here."""

_BY_PHRASE: tuple[tuple[re.Pattern[str], _Make], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), make)
    for pattern, make in (
        # A user without MULTI gets its refusal in the middle; redis-py shows the last reply.
        (r"exec without multi", explain_refusal),
        (r"fail(ing )?over", _says(StoreNotReady, _FAILOVER)),
        (r"max number of clients", _says(StoreUnavailable, "Redis takes no more connections (maxclients); try again")),
        (r"invalid password|no password is set|without any password", _says(StoreRefused, _REJECTED)),
        (r"operation not permitted", _says(StoreRefused, _REJECTED)),
        (r"DB index|invalid DB|SELECT is not allowed", _says(StoreRefused, _NO_DATABASE)),
        (r"unknown (\w+ )?(sub)?command|wrong number of arg|syntax error", _says(StoreRefused, _UNABLE)),
        (r"not allowed from script|not supported|unsupported|command is not available", _says(StoreRefused, _UNABLE)),
        (r"non local key", _says(StoreRefused, _CLUSTER_NODE)),
        (r"compiling script|script attempted|attempt to |bad argument", _says(StoreRefused, _UNABLE)),
        (r"not an integer|would overflow|specified in XADD|stream ID", _changed),
    )
)
"""What a reply without a code word of its own is told as. What is in neither list passes."""

_BY_TEXT: Mapping[str, _Make] = {
    "No connection available.": _says(StoreBusy, _NO_CONNECTION),
    "The previous master is now a slave": _says(StoreNotReady, _FAILOVER),
    "Invalid RESP version": _says(StoreRefused, _UNABLE),
    "Invalid Database": _says(StoreRefused, _NO_DATABASE),
}
"""What redis-py itself says with no class of its own: a blocking pool, one that asks Sentinel, the first exchange."""

_CODE = re.compile(r"\b[A-Z]{3,}\b")
_PIPELINE = " of pipeline caused error: "
_REFUSED_IN_SCRIPT = re.compile(r"ACL failure in script|The user executing the script can't")
_TLS = re.compile(
    r"\[SSL: (CERTIFICATE_VERIFY_FAILED|WRONG_VERSION_NUMBER|\w+_ALERT_(BAD_CERTIFICATE|UNKNOWN_CA|CERTIFICATE_\w+))"
)


CLIENT_ERRORS = (RedisError, OSError, TypeError, ValueError, AttributeError)
"""What a call of redis-py raises. The last three come where another thread closes its connection under it: after a
failover all connections of the pool are dropped, and redis-py then waits for the socket None."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn what redis-py raises inside the block into our errors."""
    try:
        yield
    except CLIENT_ERRORS as error:
        raise translate(error) from error


def translate(error: Exception) -> ChunkspoolError:
    """Return our error for one of redis-py's (or for an operating system's, which it lets through)."""
    code = getattr(error, "status_code", None) or ""
    text = _text_of(error, code)
    make = _by_class(error)
    if make is None and (code or isinstance(error, ResponseError)):
        make = _by_code(code, text) or _by_phrase(text) or _says(StoreUnavailable, _PASSES)
    if make is None:
        make = _of_tls(text) or _says(StoreUnavailable, _UNREACHABLE)
    return make(text)


def _of_tls(text: str) -> _Make | None:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        fault = next((means for word, means in _FAULTS.items() if word in text), "is not trusted")
        return _says(StoreRefused, f"{_IMPOSTOR} {fault}")
    return _says(StoreRefused, _UNTRUSTED) if _TLS.search(text) else None


def _text_of(error: Exception, code: str) -> str:
    """Return what the server said, without what was said to it: that may be a prompt, and it may hold any word.

    redis-py takes the code word off the errors that it has a class for; here it is put back.
    """
    said = str(error).rpartition(_PIPELINE)[2].partition(", with args beginning with")[0] or type(error).__name__
    return said if code in {"", "ERR"} else f"{code} {said}"


def _by_class(error: Exception) -> _Make | None:
    match error:
        case MaxConnectionsError():
            return _says(StoreBusy, _NO_CONNECTION)
        case InvalidResponse():
            return _says(StoreRefused, _NO_REDIS)
        case AuthenticationError() | AuthorizationError() | AuthenticationWrongNumberOfArgsError():
            return _says(StoreRefused, _REJECTED)
        case MasterNotFoundError() | SlaveNotFoundError():
            return _says(StoreNotReady, _FAILOVER)
        case DataError():
            return _says(StoreRefused, _UNABLE)
    return _BY_TEXT.get(str(error))


def _by_code(code: str, text: str) -> _Make | None:
    """Look for the code word: the server's own, or one inside, where Redis 6.2 puts what a script has met."""
    own = code or text.partition(" ")[0]
    if own in _BY_CODE:
        return _BY_CODE[own]
    if _REFUSED_IN_SCRIPT.search(text):  # Redis 7 says ERR here, not NOPERM
        return explain_refusal
    return next((_BY_CODE[word] for word in _CODE.findall(text) if word in _BY_CODE), None)


def _by_phrase(text: str) -> _Make | None:
    return next((make for pattern, make in _BY_PHRASE if pattern.search(text)), None)
