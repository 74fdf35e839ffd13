"""What people import: a short list, documented to the last method, the same in both faces, and connecting nothing."""

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
    "fold",
}
CLASSES = [value for value in vars(chunkspool).values() if inspect.isclass(value)]
PROVIDERS = [
    value for value in vars(provider).values() if inspect.isclass(value) and value.__module__ == provider.__name__
]
AWAITED = {"enqueue", "read", "stop", "revoke", "status", "snapshot", "erase"}


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what a class defines and its users may call."""
    for name, value in vars(kind).items():
        public = not name.startswith("_") or name in {"__init__", "__enter__", "__aenter__"}
        if public and (inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)):
            yield name, value


def test_the_list_is_what_it_was() -> None:
    """A name more or less is a decision, to be written into the changelog."""
    assert set(chunkspool.__all__) == PUBLIC
    assert list(chunkspool.__all__) == sorted(chunkspool.__all__)
    assert all(hasattr(chunkspool, name) for name in PUBLIC)


@pytest.mark.parametrize("kind", [*CLASSES, *PROVIDERS], ids=lambda kind: kind.__name__)
def test_everything_is_documented(kind: type) -> None:
    """Each class, and each method that it defines itself."""
    assert (kind.__doc__ or "").strip(), kind
    made = is_dataclass(kind) or getattr(kind, "_is_protocol", False)
    documented = {name: inspect.getdoc(value) for name, value in members(kind) if not (made and name == "__init__")}
    silent = [name for name, said in documented.items() if not (said or "").strip()]
    assert silent == []


def test_both_faces_have_the_same_calls() -> None:
    """The same names, the same parameters; only how they are called differs."""
    sync, other = dict(members(Spool)), dict(members(AsyncSpool))
    assert set(sync) - {"close", "__enter__"} == set(other) - {"aclose", "__aenter__"}
    for name in set(sync) - {"close", "__enter__", "__init__"}:
        mine, theirs = inspect.signature(getattr(Spool, name)), inspect.signature(getattr(AsyncSpool, name))
        assert mine.parameters == theirs.parameters, name
    for name in AWAITED:
        assert inspect.iscoroutinefunction(getattr(AsyncSpool, name)), name


def test_enqueue_takes_its_options_by_name() -> None:
    """Twelve of them in a row could not be read."""
    parameters = inspect.signature(Spool.enqueue).parameters
    positional = [name for name, one in parameters.items() if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == ["self", "chat_id", "prompt"]


def test_what_is_raised_is_there() -> None:
    """Every error that a docstring names can be imported from `chunkspool.errors`."""
    for face in (Spool, AsyncSpool):
        for name, value in members(face):
            raised = (inspect.getdoc(value) or "").partition("Raises")[2]
            for word in raised.split("`")[1::2]:
                if word[:1].isupper() and word.isidentifier():
                    assert hasattr(errors, word), (name, word)


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whoever connects or starts a thread."""

    def forbidden(*_: object) -> NoReturn:
        raise AssertionError("it connects, or starts a thread")

    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "connect_ex", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    monkeypatch.setattr(threading.Thread, "start", forbidden)


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("face", [Spool, AsyncSpool])
def test_construction_connects_nothing(face: type[Spool | AsyncSpool]) -> None:
    """However it is made; nor does naming a tenant, or a chat to be read."""
    url = "redis://nowhere.invalid:1/0"
    app = Celery("own", broker="amqp://nowhere.invalid//", set_as_current=False)
    client: Any = Redis.from_url(url) if face is Spool else AsyncRedis.from_url(url)
    for spool in (
        face.from_url(url, "amqp://nowhere.invalid//", tenant="acme"),
        face.from_env({"CHUNKSPOOL_REDIS_URL": url}),
        face.from_settings(Settings.checked({"redis_url": url})),
        face(client, app),
        face(client, tenant="acme"),
    ):
        spool.for_tenant("other")
        spool.subscribe("chat", 7, until="forever")


async def test_what_a_spool_was_not_given_it_says() -> None:
    """One without a Celery app cannot enqueue; an async one without a sync client cannot produce."""
    with pytest.raises(SettingsError, match="needs a Celery app: Spool\\(redis, celery_app\\)"):
        Spool(Redis()).enqueue("chat", "hello")
    async with AsyncSpool(AsyncRedis()) as spool:
        with pytest.raises(SettingsError, match="needs a Celery app"):
            await spool.enqueue("chat", "hello")
        with pytest.raises(SettingsError, match="needs a sync client too"):
            async with spool.produce("chat", "one"):
                pass
