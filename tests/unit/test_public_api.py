"""The public API: a short list of names, fully documented, the same for sync and async, and free of side effects."""

from __future__ import annotations

import inspect
import socket
import threading
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, NoReturn

import pytest
from celery import Celery
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

import chunkspool
from chunkspool import AsyncSpool, Settings, Spool, errors, provider
from chunkspool.errors import SettingsError

PUBLIC = {
    "Answer",
    "AsyncSpool",
    "ChunkspoolError",
    "Entry",
    "Event",
    "Generation",
    "Producer",
    "Settings",
    "Spool",
    "Turn",
    "conversation",
    "fold",
}
CLASSES = [value for value in vars(chunkspool).values() if inspect.isclass(value)]
PROVIDERS = [
    value for value in vars(provider).values() if inspect.isclass(value) and value.__module__ == provider.__name__
]
AWAITED = {"enqueue", "read", "stop", "revoke", "status", "snapshot", "erase"}


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the members that a class defines for its users."""
    for name, value in vars(kind).items():
        public = not name.startswith("_") or name in {"__init__", "__enter__", "__aenter__"}
        if public and (inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)):
            yield name, value


def test_the_public_names_do_not_change_by_accident() -> None:
    """Adding or removing a name is a decision that belongs in the changelog."""
    assert set(chunkspool.__all__) == PUBLIC
    assert list(chunkspool.__all__) == sorted(chunkspool.__all__)
    assert all(hasattr(chunkspool, name) for name in PUBLIC)


@pytest.mark.parametrize("kind", [*CLASSES, *PROVIDERS], ids=lambda kind: kind.__name__)
def test_everything_is_documented(kind: type) -> None:
    """Every class and every method it defines has a docstring."""
    assert (kind.__doc__ or "").strip(), kind
    made = is_dataclass(kind) or getattr(kind, "_is_protocol", False)
    documented = {
        name: inspect.getdoc(value) for name, value in public_members(kind) if not (made and name == "__init__")
    }
    silent = [name for name, said in documented.items() if not (said or "").strip()]
    assert silent == []


def test_sync_and_async_have_the_same_calls() -> None:
    """Names and parameters are the same; only the way of calling differs."""
    sync, other = dict(public_members(Spool)), dict(public_members(AsyncSpool))
    assert set(sync) - {"close", "__enter__"} == set(other) - {"aclose", "__aenter__"}
    for name in set(sync) - {"close", "__enter__", "__init__"}:
        mine, theirs = inspect.signature(getattr(Spool, name)), inspect.signature(getattr(AsyncSpool, name))
        assert mine.parameters == theirs.parameters, name
    for name in AWAITED:
        assert inspect.iscoroutinefunction(getattr(AsyncSpool, name)), name


def test_enqueue_takes_its_options_by_name() -> None:
    """Twelve positional arguments would be unreadable."""
    parameters = inspect.signature(Spool.enqueue).parameters
    positional = [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == ["self", "chat_id", "prompt"]


def test_documented_errors_can_be_imported() -> None:
    """Every error named in a docstring is in `chunkspool.errors`."""
    for kind in (Spool, AsyncSpool):
        for name, value in public_members(kind):
            raised = (inspect.getdoc(value) or "").partition("Raises")[2]
            for word in raised.split("`")[1::2]:
                if word[:1].isupper() and word.isidentifier():
                    assert hasattr(errors, word), (name, word)


@pytest.fixture
def forbid_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on any connection or new thread."""

    def forbidden(*_: object) -> NoReturn:
        raise AssertionError("it connects, or starts a thread")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "connect_ex", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(threading.Thread, "start", forbidden)


@pytest.mark.usefixtures("forbid_connections")
@pytest.mark.parametrize("kind", [Spool, AsyncSpool])
def test_construction_connects_nothing(kind: type[Spool | AsyncSpool]) -> None:
    """However the spool is created; `for_tenant` and `subscribe` alone do not connect either."""
    url = "redis://nowhere.invalid:1/0"
    app = Celery("own", broker="amqp://nowhere.invalid//", set_as_current=False)
    client: Any = Redis.from_url(url) if kind is Spool else AsyncRedis.from_url(url)
    for spool in (
        kind.from_url(url, "amqp://nowhere.invalid//", tenant="acme"),
        kind.from_env({"CHUNKSPOOL_REDIS_URL": url}),
        kind.from_settings(Settings.checked({"redis_url": url})),
        kind(client, app),
        kind(client, tenant="acme"),
    ):
        spool.for_tenant("other")
        spool.subscribe("chat", 7, until="forever")


async def test_a_spool_says_which_client_it_lacks() -> None:
    """Without a Celery app it cannot enqueue; an async spool without a sync client cannot produce."""
    with pytest.raises(SettingsError, match="needs a Celery app: Spool\\(redis, celery_app\\)"):
        Spool(Redis()).enqueue("chat", "hello")
    async with AsyncSpool(AsyncRedis()) as spool:
        with pytest.raises(SettingsError, match="needs a Celery app"):
            await spool.enqueue("chat", "hello")
        with pytest.raises(SettingsError, match="needs a sync client too"):
            async with spool.produce("chat", "one"):
                pass
