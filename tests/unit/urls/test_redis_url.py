"""A Redis URL means the same to redis-py and to Celery, or it is refused with a sentence that says what to write."""

from __future__ import annotations

import re
from pathlib import Path
from traceback import format_exception
from typing import Any

import pytest
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES
from redis import ConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings
from chunkspool.urls.broker_url import OTHER_BROKERS, CeleryBroker
from chunkspool.urls.redis_url import NEEDED, SCHEMES, parse_redis_url
from chunkspool.urls.tls import TLS_OPTIONS

SECRET = "hunter2"
SAME = {
    "redis://host": ("host", 6379, 0, None, None),
    "redis://": ("localhost", 6379, 0, None, None),
    "redis://:6380": ("localhost", 6380, 0, None, None),
    "REDIS://host:1/": ("host", 1, 0, None, None),
    "redis://host/3": ("host", 6379, 3, None, None),
    "redis://host?db=3": ("host", 6379, 3, None, None),
    "redis://host/3?db=3": ("host", 6379, 3, None, None),
    "redis://:p%2Fa%40s%3As%23%3F%25%3B@host:65535": ("host", 65535, 0, None, "p/a@s:s#?%;"),
    "redis://us%40er:pass@host": ("host", 6379, 0, "us@er", "pass"),
    "redis://us:er:pass@host": ("host", 6379, 0, "us", "er:pass"),
    "redis://a@b:c@host": ("host", 6379, 0, "a@b", "c"),
    "redis://host?username=us%26er&password=p%2Bass": ("host", 6379, 0, "us&er", "p+ass"),
    "redis://[::1]:6380/1": ("::1", 6380, 1, None, None),
    "redis://:pass@[2001:DB8:0::7]": ("2001:db8::7", 6379, 0, None, "pass"),
    "redis://[fe80::1%25eth0]": ("fe80::1%eth0", 6379, 0, None, None),
    "redis://under_score.example-1.com": ("under_score.example-1.com", 6379, 0, None, None),
}
REFUSED = {
    "http://host": "write redis://user:password@host:port/db",
    "host:6379": "write redis://",
    "redis": "write redis://",
    "": "write redis://",
    "redis://a,b": "write redis://",
    "redis://a;redis://b": "write redis://",
    "redis://ho st": "write redis://",
    "redis://host\n": "write redis://",
    "redis://[::1": "write redis://",
    "redis://[host]": "write redis://",
    "redis://host#0": "write redis://",
    "unix://": "write redis://",
    "unix://run/redis.sock": "write redis://",
    f"redis://:{SECRET}/x@host:6379": "a / or @ of the password as %2F or %40",
    f"redis://:1{SECRET}/x@host": "a / or @ of the password as %2F or %40",
    f"redis://:1?{SECRET}@host": "a / or @ of the password as %2F or %40",
    f"redis://:1#{SECRET}@host": "a / or @ of the password as %2F or %40",
    f"redis://:{SECRET}@host:port": "a / or @ of the password as %2F or %40",
    f"unix://:{SECRET}/x@/run/redis.sock": "a / or @ of the password as %2F or %40",
    "redis://host:0": "a port is a number from 1 to 65535",
    "redis://host:65536": "a port is a number from 1 to 65535",
    "redis://host/-1": "a database is a whole number of 0 or more: write redis://host:port/0",
    "redis://host/zero": "a database is a whole number of 0 or more",
    "redis://host/1/2": "a database is a whole number of 0 or more",
    "redis://host?db=": "a database is a whole number of 0 or more",
    "redis://host?db=1.5": "a database is a whole number of 0 or more",
    "redis://host/1?db=2": "the URL names two databases: write redis://host:port/db, and no db option",
    "unix:///a?db=1&virtual_host=2": "the URL names two databases",
    "redis://host?db=1&db=1": "db stands twice in the URL",
    f"redis://:{SECRET}@host?password={SECRET}": "the password stands twice in the URL",
    "redis://host?clientname=me": "this URL may have no options but db, client_name, username, password",
    "redis://host?virtual_host=1": "this URL may have no options but",
    "redis://host?sentinel_password=x": "this URL may have no options but",
    "redis://host?client_name=my%20app": "client_name may have letters, digits and signs, but no spaces",
    "redis://host?ssl_cert_reqs=none": "ssl_cert_reqs is an option of TLS: write rediss://",
    "rediss://host?ssl_cert_reqs=maybe": "ssl_cert_reqs is required, optional or none",
    "rediss://host?ssl_check_hostname=2": "ssl_check_hostname is true or false",
    "rediss://host?ssl_cert_reqs=none&ssl_check_hostname=true": "an unverified name proves nothing",
    "rediss://host?ssl_ca_certs=/no/such/file": "ssl_ca_certs is no file that can be read: /no/such/file",
    "rediss://host?ssl_ca_path=/no/such/folder": "ssl_ca_path is no folder that can be read",
    f"rediss://host?ssl_keyfile={__file__}": "ssl_keyfile needs ssl_certfile",
    f"rediss://host?ssl_password={SECRET}": "this URL may have no options but",
    "redis+sentinel://host": "name the service that Sentinel watches",
    "redis+sentinel://host/?db=1": "name the service that Sentinel watches",
    "redis+sentinel://host:1,host:x/service": "write redis://",
    "redis+sentinel://host/service/db": "a database is a whole number of 0 or more",
    **{f"redis://host?{name}=1": f"remove {name} from the URL: chunkspool sets it itself" for name in sorted(NEEDED)},
}
"""A URL that is refused, and what the sentence says."""


def by_kombu(url: str) -> dict[str, Any]:
    """Return how kombu, configured as the worker, the dispatcher and Flower are, would connect."""
    broker = CeleryBroker.from_url(url)
    with Connection(broker.url, ssl=broker.use_ssl, transport_options=broker.transport_options) as connection:
        channel = connection.transport.Channel.__new__(connection.transport.Channel)
        channel.connection = connection.transport
        found: dict[str, Any] = channel._connparams()  # noqa: SLF001 - kombu says it nowhere else
        return found


@pytest.mark.parametrize("url", SAME)
def test_log_and_broker_are_the_same_server(url: str) -> None:
    """Host, port, database, user and password, whatever characters they have, reach both libraries unchanged."""
    names = ("host", "port", "db", "username", "password")
    log = parse_url(parse_redis_url(url).for_redis_py())
    assert tuple(log.get(name) for name in names) == SAME[url]
    assert tuple(by_kombu(url)[name] for name in names) == SAME[url]


@pytest.mark.parametrize(
    ("url", "path", "db", "username", "password"),
    [
        ("unix:///run/redis.sock", "/run/redis.sock", 0, None, None),
        ("unix:///run/redis.sock?db=1", "/run/redis.sock", 1, None, None),
        ("redis+socket:///run/redis.sock?virtual_host=1", "/run/redis.sock", 1, None, None),
        ("unix://us%2Fer:p%40ss@/run/a@b%20c.sock", "/run/a@b c.sock", 0, "us/er", "p@ss"),
        ("unix:///run/redis.sock?password=p%26ss", "/run/redis.sock", 0, None, "p&ss"),
    ],
)
def test_a_unix_socket(url: str, path: str, db: int, username: str | None, password: str | None) -> None:
    """redis-py and kombu name its scheme and its database differently; a person writes either."""
    log, broker = parse_url(parse_redis_url(url).for_redis_py()), by_kombu(url)
    assert log["connection_class"] is broker["connection_class"] is UnixDomainSocketConnection
    for found in (log, broker):
        names = ("path", "db", "username", "password")
        assert tuple(found.get(name) for name in names) == (path, db, username, password)
    assert "visibility_timeout" not in CeleryBroker.from_url(url).transport_options
    assert CeleryBroker.from_url(url).is_redis


def test_a_client_name_is_for_both() -> None:
    """CLIENT LIST then tells whose connections those are."""
    url = "redis://host?client_name=pod-7"
    assert parse_url(parse_redis_url(url).for_redis_py())["client_name"] == "pod-7"
    assert CeleryBroker.from_url(url).transport_options == {"client_name": "pod-7"}


@pytest.mark.parametrize(
    ("query", "reqs", "hostname"),
    [
        ("", "required", True),
        ("?ssl_cert_reqs=required", "required", True),
        ("?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=False", "required", False),
        ("?ssl_cert_reqs=CERT_OPTIONAL", "optional", True),
        ("?ssl_cert_reqs=optional", "optional", True),
        ("?ssl_cert_reqs=CERT_NONE", "none", False),
        ("?ssl_cert_reqs=none&ssl_check_hostname=no", "none", False),
    ],
)
def test_a_certificate_is_verified_unless_the_url_says_otherwise(query: str, reqs: str, hostname: bool) -> None:
    """In redis-py's spelling and in Celery's, and the same for log and broker."""
    url = f"rediss://host{query}"
    spelled = parse_redis_url(url).for_redis_py()
    log, broker = ConnectionPool.from_url(spelled), ConnectionPool(**by_kombu(url))
    for connection in (log.make_connection(), broker.make_connection()):
        assert isinstance(connection, SSLConnection)
        assert connection.cert_reqs.name == f"CERT_{reqs.upper()}"
        assert connection.check_hostname is hostname
    later = AsyncRedis.from_url(spelled).connection_pool.make_connection()
    assert isinstance(later, AsyncSSLConnection)
    assert (later.cert_reqs.name, later.check_hostname) == (f"CERT_{reqs.upper()}", hostname)


def test_certificates_of_ones_own(tmp_path: Path) -> None:
    """The paths reach both libraries; a percent sign or a space in them, too."""
    pem = tmp_path / "our 100% ca.pem"
    pem.touch()
    spelled = str(pem).replace("%", "%25").replace(" ", "%20")
    url = f"rediss://host?ssl_ca_certs={spelled}&ssl_certfile={spelled}&ssl_keyfile={spelled}&ssl_ca_path={tmp_path}"
    names = {"ssl_ca_certs": str(pem), "ssl_certfile": str(pem), "ssl_keyfile": str(pem), "ssl_ca_path": str(tmp_path)}
    for found in (parse_url(parse_redis_url(url).for_redis_py()), by_kombu(url)):
        assert {name: found[name] for name in names} == names


def test_sentinel() -> None:
    """Each of kombu's URLs has all there is, for it goes on with any of them; the Sentinels' password is another."""
    url = "redis+sentinel://us%40er:p%2Fw@one,two:5,[::1]:6/my%20chats/2?sentinel_username=s&sentinel_password=p%26s"
    found = parse_redis_url(url)
    assert found.addresses == (("one", 26379), ("two", 5), ("::1", 6))
    assert (found.service, found.tls) == ("my chats", None)
    assert found.connection_options() == {"db": 2, "username": "us@er", "password": "p/w"}
    asking = {"username": "s", "password": "p&s", "socket_connect_timeout": 1.0, "socket_timeout": 1.0}
    assert found.sentinel_options() == asking
    broker = CeleryBroker.from_url(url)
    who = "us%40er:p%2Fw@"
    assert broker.url == f"sentinel://{who}one:26379/2;sentinel://{who}two:5/2;sentinel://{who}[::1]:6/2"
    assert broker.transport_options == {"master_name": "my chats", "sentinel_kwargs": asking}


def test_sentinel_over_tls() -> None:
    """To the servers and to the Sentinels."""
    found = parse_redis_url("rediss+sentinel://one/chats?ssl_check_hostname=false")
    tls = {"ssl_cert_reqs": "required", "ssl_check_hostname": False}
    assert found.connection_options() == {"db": 0, **tls}
    broker = CeleryBroker.from_url("rediss+sentinel://one/chats?ssl_check_hostname=false")
    assert (broker.url, broker.use_ssl) == ("sentinel://one:26379/0", tls)
    assert broker.transport_options["sentinel_kwargs"].items() >= {"ssl": True, **tls}.items()


@pytest.mark.parametrize(("url", "said"), REFUSED.items())
def test_what_cannot_be_used_is_refused_with_a_sentence(url: str, said: str) -> None:
    """As the log's URL and as the broker's, before anything is connected, and without a piece of the password."""
    for field in ("redis_url", "broker_url"):
        with pytest.raises(SettingsError) as refused:
            Settings.checked({field: url})
        assert said in str(refused.value)
        assert SECRET not in "".join(format_exception(refused.value))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sentinel://one;sentinel://two", "write redis+sentinel://host:port,host:port/service/db"),
        ("http://host", "write amqp://user:password@host:port/vhost, another URL that Celery knows, or a Redis URL"),
        ("localhost", "another URL that Celery knows"),
        ("memory", "another URL that Celery knows"),
        (f"amqp://user:{SECRET}/x@host", "write amqp://user:password@host:port/vhost, a / or @ of the password as"),
        (f"amqp://one;amqp://user:{SECRET}/x@host", "write amqp://user:password@host:port/vhost"),
        ("amqp://one;redis://two", "a list of brokers cannot have a Redis in it"),
    ],
)
def test_a_broker_that_celery_cannot_use(url: str, said: str) -> None:
    """It is refused at start, too, not by a traceback of kombu's."""
    with pytest.raises(SettingsError) as refused:
        Settings.checked({"broker_url": url})
    assert said in str(refused.value)
    assert SECRET not in "".join(format_exception(refused.value))


@pytest.mark.parametrize("url", ["amqp://user:pass@host//", "amqp://one;amqp://two", "memory://", "sqla+sqlite:///x"])
def test_other_brokers_are_left_to_celery(url: str) -> None:
    """Their URLs reach it as they were written."""
    broker = CeleryBroker.from_url(Settings.checked({"broker_url": url}).broker)
    assert (broker.url, broker.is_redis, broker.use_ssl, broker.transport_options) == (url, False, None, {})


def test_every_transport_of_kombu_is_known() -> None:
    """One that is missing in the list could not be used; one that is no transport would be a traceback later."""
    known = {name.lower() for name in TRANSPORT_ALIASES} - {"redis", "rediss", "sentinel"}
    assert known == OTHER_BROKERS
    assert not SCHEMES & OTHER_BROKERS


def test_no_password_is_shown() -> None:
    """A URL that was read may be logged."""
    url = f"redis+sentinel://:{SECRET}@host/chats?sentinel_password={SECRET}"
    for shown in (
        repr(parse_redis_url(url)),
        repr(CeleryBroker.from_url(url)),
        repr(Settings.checked({"redis_url": url})),
    ):
        assert SECRET not in shown


def test_the_documented_urls_and_options_are_understood() -> None:
    """Each URL of docs/reference/redis-urls.md can be written as it stands there, and each option has its row."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "redis-urls.md"
    tables = page.read_text().partition("## Sentinel")[0]
    urls = re.findall(r"^\| `(\S+://[^`…]+)`", tables, re.MULTILINE)
    assert len(urls) > 5
    for url in urls:
        Settings.checked({"broker_url": url} if url.startswith("amqp") else {"redis_url": url, "broker_url": url})
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", tables, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"[a-z_]+", row)}
    credentials = {f"{whose}{what}" for whose in ("", "sentinel_") for what in ("username", "password")}
    assert documented == {"db", "client_name", *credentials, *TLS_OPTIONS}
