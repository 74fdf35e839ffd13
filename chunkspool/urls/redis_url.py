"""Reads a Redis URL once; redis-py and Celery are then told the same, each in its own words.

redis-py does not know `redis+socket://`. kombu, which has Celery's transports, does not know `unix://`, takes every
option for an argument of its connections, spells TLS differently, and verifies no certificate unless it is told to. So
neither of them gets to see the URL that a person wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from chunkspool.urls.tls import TLS_OPTIONS, Tls, parse_tls

WRITE = (
    "write redis://user:password@host:port/db, rediss:// for TLS, unix:///path/to/socket, or "
    "redis+sentinel://host:port,host:port/service/db; a / or @ of the password as %2F or %40"
)
SERVER, SENTINEL, UNIX = ("redis", "rediss"), ("redis+sentinel", "rediss+sentinel"), ("unix", "redis+socket")
SCHEMES = frozenset(SERVER + SENTINEL + UNIX)
SENTINEL_TIMEOUT = 1.0
"""Seconds for a Sentinel to accept a connection, and to answer. Then the next one is asked."""

NEEDED = frozenset(
    {
        *("protocol", "decode_responses", "encoding", "encoding_errors", "legacy_responses", "health_check_interval"),
        *("socket_timeout", "socket_connect_timeout", "socket_read_size", "socket_keepalive", "timeout"),
        *("max_connections", "retry_on_timeout", "retry_on_error", "visibility_timeout"),
    }
)
"""Options of redis-py or kombu on whose values chunkspool depends."""
_CREDENTIALS = ("username", "password")
_SENTINEL_CREDENTIALS = ("sentinel_username", "sentinel_password")
_HOST = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^\[\]@:;,%/\s]*))(?::(?P<port>[0-9]{0,5}))?")
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """Where a Redis is, who we are there, and how we know that it is the right one."""

    addresses: tuple[tuple[str, int], ...] = ()
    """Host and port of the server, or of each Sentinel; none for a Unix socket."""
    path: str = ""
    service: str = ""
    """The name under which Sentinel knows the servers; empty without Sentinel."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    client_name: str | None = None
    tls: Tls | None = None

    def for_redis_py(self) -> str:
        """Return the URL for redis-py. For Sentinel it has none: see `connection_options`."""
        options: dict[str, Any] = {**({} if self.tls is None else self.tls.options()), **self.name_option()}
        if self.path:
            return f"unix://{self.credentials()}{quote(self.path)}?{urlencode({'db': self.db, **options})}"
        return f"{self.server_url()}?{urlencode(options)}" if options else self.server_url()

    def server_url(self) -> str:
        """Return the URL of the one server, without options."""
        (address,) = self.addresses
        return f"{'redis' if self.tls is None else 'rediss'}://{self.credentials()}{spell_address(address)}/{self.db}"

    def connection_options(self) -> dict[str, Any]:
        """Return redis-py's options for connections to the server that Sentinel names."""
        who = _credential_options(self.username, self.password)
        return {"db": self.db, **who, **self.name_option(), **({} if self.tls is None else self.tls.options())}

    def sentinel_options(self) -> dict[str, Any]:
        """Return redis-py's options for connections to the Sentinels."""
        who = _credential_options(self.sentinel_username, self.sentinel_password)
        limits = {"socket_connect_timeout": SENTINEL_TIMEOUT, "socket_timeout": SENTINEL_TIMEOUT}
        return {**who, **limits, **({} if self.tls is None else {"ssl": True, **self.tls.options()})}

    def credentials(self) -> str:
        """Return what stands before the host in a URL."""
        if self.username is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.username or '', safe='')}{password}@"

    def name_option(self) -> dict[str, str]:
        """Return the option by which the server lists our connections under a name, if there is one."""
        return {} if self.client_name is None else {"client_name": self.client_name}


def spell_address(address: tuple[str, int]) -> str:
    """Return host and port as they stand in a URL."""
    host, port = address
    return f"[{quote(host, safe=':')}]:{port}" if ":" in host else f"{host}:{port}"


def spell_place(url: RedisUrl) -> str:
    """Return where the server is, without who we are there."""
    where = url.path or ",".join(map(spell_address, url.addresses))
    return f"{where}{f'/{url.service}' if url.service else ''}/{url.db}"


def _credential_options(username: str | None, password: str | None) -> dict[str, str]:
    found = {"username": username, "password": password}
    return {name: value for name, value in found.items() if value is not None}


def parse_redis_url(url: str) -> RedisUrl:
    """Read a URL. Raises `ValueError`: one sentence that says what to write, and shows nothing of a password."""
    scheme, divided, rest = url.partition("://")
    scheme = scheme.lower() if divided else ""
    rest, fragment, _ = rest.partition("#")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    before, _, hosts = authority.rpartition("@")
    # An @ so far behind, or a fragment, is what is left of a password that has a / ? or # in it.
    if scheme not in SCHEMES or fragment or "@" in query or ("@" in path and hosts) or not url.isprintable():
        raise ValueError(WRITE)
    options = dict(_parse_options(scheme, query))
    where, path_db = _parse_place(scheme, hosts, path)
    return RedisUrl(
        **where,
        **_parse_credentials(before, options),
        db=_parse_db({path_db, options.get("db"), options.get("virtual_host")} - {None}),
        client_name=_parse_client_name(options.get("client_name")),
        tls=_parse_tls(scheme, options),
    )


def _parse_place(scheme: str, hosts: str, path: str) -> tuple[dict[str, Any], str | None]:
    """Return the fields that say where the server is, and the database if the path names it."""
    if scheme in UNIX:
        if hosts or not path:
            raise ValueError(WRITE)
        return {"path": f"/{unquote(path)}"}, None
    if scheme in SENTINEL:
        service, _, path = path.partition("/")
        if not service:
            raise ValueError("name the service that Sentinel watches: redis+sentinel://host:port,host:port/service/db")
        addresses = tuple(_parse_address(one, 26379) for one in hosts.split(","))
        return {"service": unquote(service), "addresses": addresses}, path.strip("/") or None
    return {"addresses": (_parse_address(hosts, 6379),)}, path.strip("/") or None


def _parse_address(text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(WRITE)
    port = int(found["port"] or default_port)
    if not 1 <= port <= _LAST_PORT:
        raise ValueError(f"a port is a number from 1 to {_LAST_PORT}")
    if found["v6"] is None:
        return found["name"] or "localhost", port
    try:
        return str(IPv6Address(unquote(found["v6"]))), port
    except ValueError:
        raise ValueError(WRITE) from None


def _parse_options(scheme: str, query: str) -> Iterator[tuple[str, str]]:
    known = ["db", "client_name", *_CREDENTIALS]
    known += ["virtual_host"] if scheme in UNIX else []
    known += _SENTINEL_CREDENTIALS if scheme in SENTINEL else []
    known += TLS_OPTIONS if scheme.startswith("rediss") else []
    seen = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in NEEDED:
            raise ValueError(f"remove {name} from the URL: chunkspool sets it itself")
        if name in TLS_OPTIONS and name not in known:
            raise ValueError(f"{name} is an option of TLS: write rediss:// or rediss+sentinel://")
        if name not in known:
            raise ValueError(f"this URL may have no options but {', '.join(known)}")
        if name in seen:
            raise ValueError(f"{name} stands twice in the URL")
        seen.add(name)
        yield name, value


def _parse_credentials(before_host: str, options: dict[str, str]) -> dict[str, Any]:
    username, _, password = before_host.partition(":")
    found: dict[str, Any] = {"username": unquote(username) or None, "password": unquote(password) or None}
    for name in (*_CREDENTIALS, *_SENTINEL_CREDENTIALS):
        if found.get(name) and name in options:
            raise ValueError(f"the {name} stands twice in the URL")
        found[name] = found.get(name) or options.get(name)
    return found


def _parse_db(said: set[str | None]) -> int:
    if len(said) > 1:
        raise ValueError("the URL names two databases: write redis://host:port/db, and no db option")
    (text,) = said or {"0"}
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError("a database is a whole number of 0 or more: write redis://host:port/0")
    return int(text)


def _parse_client_name(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[!-~]+", text):  # Redis takes no other
        raise ValueError("client_name may have letters, digits and signs, but no spaces")
    return text


def _parse_tls(scheme: str, options: dict[str, str]) -> Tls | None:
    return parse_tls(options) if scheme.startswith("rediss") else None
