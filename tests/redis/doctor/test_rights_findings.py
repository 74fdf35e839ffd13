"""Rights and TLS: each right that a role lacks is named, to its own user and to an administrator."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.doctor.examined import PASSWORD, SECONDS, complaints, examine_redis, finding_of
from support.missing import skip_missing
from support.servers.non_redis_servers import http_server, silent_server
from support.servers.redis_server import PrivateServer, ServerMissing
from support.servers.roles import ADMIN, ROLES, RoleServer, each_right, without
from support.servers.tls import IMPOSTORS, Authority, TlsFront, TlsServer, tls_server

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.doctor.asking import RedisQuestions, Unanswered
from chunkspool.store.probes import Role

pytestmark = pytest.mark.both_servers


def admin_url(server: PrivateServer) -> str:
    """Return the URL of a user who may do everything."""
    return f"redis://:{ADMIN}@{LOOPBACK}:{server.port}/0"


@pytest.mark.parametrize("role", ROLES)
def test_a_documented_user_lacks_nothing(role: Role, roles: RoleServer) -> None:
    """What it may not be asked is told as that, and is no error; no key is read or written for it."""
    found = examine_redis(roles.url_of(role), role=role)
    assert finding_of(found, "rights", level="ok").found == f"chunkspool-{role} as {role}: all that are needed"
    told = complaints(found)
    if role != "flower":  # the others may ask for INFO, for `stats`: this server is not in good order
        assert (told.pop("memory"), told.pop("persistence")) == ("warning", "error")
        found = [one for one in found if one.subject not in {"memory", "persistence"}]
    assert told == dict.fromkeys(("rights", "password", *(["info"] if role == "flower" else []), "config"), "warning")
    assert all("CHUNKSPOOL_REDIS_URL" in one.advice for one in found if one.level == "warning")


@pytest.mark.parametrize("role", ROLES)
def test_each_right_that_is_missing_is_named(role: Role, roles: RoleServer) -> None:
    """That one and no other, by the URL of its user and by the administrator's, with the command that gives it."""
    for right in each_right(role):
        roles.grant(role, without(roles.rights[role], right))
        told = finding_of(examine_redis(admin_url(roles)), "rights", level="error")
        assert told.found == f"chunkspool-{role} lacks {right}"
        assert told.advice.startswith(f"ACL SETUSER chunkspool-{role} {right}, ")
        if right == "+ping":  # without it nothing else is asked
            continue
        own = finding_of(examine_redis(roles.url_of(role), role=role), "rights", level="error")
        assert own.found == f"chunkspool-{role} as {role} lacks {right}"


def test_a_user_of_another_role(roles: RoleServer) -> None:
    """A web app's user in a worker's URL lacks a worker's rights."""
    lacks = finding_of(examine_redis(roles.url_of("web"), role="worker"), "rights", level="error").found
    assert "+brpop" in lacks
    assert "~*.celery.pidbox*" in lacks


def test_an_administrator_sees_all_roles(roles: RoleServer) -> None:
    """One finding for each of the three users."""
    found = [one for one in examine_redis(admin_url(roles)) if one.subject == "rights"]
    assert [(one.level, one.found.split()[0].rstrip(":")) for one in found] == [
        ("ok", name) for name in ("default", "chunkspool-web", "chunkspool-worker", "chunkspool-flower")
    ]


def test_a_wrong_password(roles: RoleServer) -> None:
    """It is told, and not shown."""
    (found,) = examine_redis(f"redis://:not-the-right-one@{LOOPBACK}:{roles.port}/0")
    assert (found.level, found.subject) == ("error", "reachable")
    assert "password" in found.found
    assert "not-the-right-one" not in repr(found)


def test_no_server() -> None:
    """It is told, and no more is asked."""
    (found,) = examine_redis(f"redis://{LOOPBACK}:{free_port()}/0")
    assert (found.level, found.subject) == ("error", "reachable")


def test_a_server_that_is_silent() -> None:
    """It is waited for once, and not once a question."""
    before = time.monotonic()
    with silent_server() as port:
        (found,) = examine_redis(f"redis://{LOOPBACK}:{port}/0")
    assert time.monotonic() - before < 2 * SECONDS
    assert (found.level, found.subject) == ("error", "reachable")


def test_a_server_that_falls_silent(roles: RoleServer) -> None:
    """In the middle of the questions: what it has not answered is told, after one time-out."""
    questions = RedisQuestions(admin_url(roles), 0.5)
    assert questions.ask(lambda client: client.ping()) is True
    roles.pause()
    try:
        before = time.monotonic()
        answers = [questions.ask(lambda client: client.info()) for _ in range(10)]
        assert time.monotonic() - before < 2
    finally:
        roles.resume()
        questions.close()
    assert all(isinstance(one, Unanswered) for one in answers)


def test_a_server_that_is_none() -> None:
    """A web server has answered."""
    with http_server() as port:
        (found,) = examine_redis(f"redis://{LOOPBACK}:{port}/0")
    assert (found.level, found.subject) == ("error", "reachable")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Give an authority of this test."""
    try:
        return Authority.make(tmp_path / "authority")
    except ServerMissing as missing:
        return skip_missing(missing)


@pytest.fixture
def secured(authority: Authority, tmp_path: Path) -> Iterator[TlsServer]:
    """Give a server with TLS."""
    try:
        with tls_server(tmp_path / "server", authority, password=PASSWORD) as running:
            yield running
    except ServerMissing as missing:
        skip_missing(missing)


def test_tls_that_is_verified(secured: TlsServer) -> None:
    """As it is unless somebody changes it."""
    assert finding_of(examine_redis(secured.url), "tls").found == f"to {LOOPBACK}:{secured.tls_port}/0, verified"


@pytest.mark.parametrize(
    ("option", "level"), [("ssl_cert_reqs=none", "error"), ("ssl_check_hostname=false", "warning")]
)
def test_tls_that_proves_too_little(option: str, level: str, secured: TlsServer) -> None:
    """Somebody in between could be the server."""
    told = finding_of(examine_redis(f"{secured.url}&{option}"), "tls")
    assert told.level == level
    assert f"remove {option.partition('=')[0]}" in told.advice


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_tls_that_proves_nothing(kind: str, authority: Authority, secured: TlsServer, tmp_path: Path) -> None:
    """The finding says what is wrong with the certificate."""
    fault, make = IMPOSTORS[kind]
    with TlsFront(make(authority, tmp_path / "made"), secured.port) as front:
        url = secured.url.replace(str(secured.tls_port), str(front.port))
        (found,) = examine_redis(url)
    assert (found.level, found.subject) == ("error", "reachable")
    assert fault in found.found
