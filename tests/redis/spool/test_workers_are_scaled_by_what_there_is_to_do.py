"""deploy/kubernetes: the keys that KEDA counts hold everything that waits or runs, and its user may count them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from redis import Redis
from redis.exceptions import NoPermissionError
from support.servers.redis_server import PrivateServer
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.settings import Settings
from chunkspool.states import PRIORITIES
from chunkspool.store.keys import QueueKeys

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
SCALED = next(yaml.safe_load_all((FOLDER / "worker-scaling.yaml").read_text()))["spec"]
TRIGGERS = {trigger["name"]: trigger["metadata"] for trigger in SCALED["triggers"]}
SECRETS = (FOLDER / "secrets.example.yaml").read_text()
ASKED = 10


@pytest.fixture
def keda(redis_server: PrivateServer, client: Redis) -> Iterator[Redis]:
    """Give a client of the user whose rights the example of its secret has."""
    ((name, rules),) = re.findall(r"ACL SETUSER (\S+) (.+)", SECRETS)
    client.execute_command("ACL SETUSER", name, *rules.split())
    with Redis(port=redis_server.port, username=name, password="PASSWORD", decode_responses=True) as connected:
        yield connected
    client.execute_command("ACL DELUSER", name)


def count(keda: Redis) -> int:
    """Count as KEDA does: by the command for each key's type, in a script, and then by its formula, which is a sum."""
    assert set(SCALED["advanced"]["scalingModifiers"]["formula"].split(" + ")) == TRIGGERS.keys()
    return sum(members_of(keda, trigger["listName"]) for trigger in TRIGGERS.values())


def members_of(keda: Redis, key: str) -> int:
    """Return how many members a key has."""
    kind = keda.eval("return redis.call('TYPE', KEYS[1]).ok", 1, key)
    command = {"zset": "ZCARD", "none": "LLEN"}[kind]
    return int(keda.eval(f"return redis.call('{command}', KEYS[1])", 1, key))


def test_what_waits_or_runs_is_counted_once(spool: Spool, client: Redis, keda: Redis) -> None:
    """Without a worker all of it waits. The broker's list would not do: it has only what workers have slots for."""
    client.delete(f"cs:{{index}}:slots:{spool.settings.worker.queue}")
    assert count(keda) == 0
    asked = [spool.enqueue(f"chat-{i}", "hello", priority=PRIORITIES[i % 2]) for i in range(ASKED)]
    assert count(keda) == ASKED
    assert client.llen(spool.settings.worker.queue) == 1
    with spool.produce("chat-0", asked[0].generation_id):
        eventually(lambda: members_of(keda, TRIGGERS["running"]["listName"]) == 1)
        assert count(keda) == ASKED  # what runs keeps its worker
    eventually(lambda: count(keda) == ASKED - 1)


def test_the_names_are_those_of_the_settings() -> None:
    """The keys of the queue that all processes get, for each priority, in the database of their URLs."""
    settings = next(yaml.safe_load_all((FOLDER / "settings.yaml").read_text()))["data"]
    queue = QueueKeys(Settings.from_env(settings).worker.queue)
    wanted = {queue.running, *(queue.queued(priority) for priority in PRIORITIES)}
    assert {trigger["listName"] for trigger in TRIGGERS.values()} == wanted
    urls = re.findall(r'CHUNKSPOOL_REDIS_URL: "(\S+)"', SECRETS)
    assert urls
    databases = {trigger["databaseIndex"] for trigger in TRIGGERS.values()}
    assert {url.rpartition("/")[2] for url in urls} == databases


def test_who_counts_can_do_nothing_else(spool: Spool, keda: Redis) -> None:
    """Neither read a chat nor take a message, nor see whose chats there are."""
    spool.enqueue("chat", "hello")
    key = TRIGGERS["interactive"]["listName"]
    for words in (("XRANGE", "cs:{default/chat}:log", "-", "+"), ("RPOP", "chunkspool"), ("ZRANGE", key, 0, -1)):
        with pytest.raises(NoPermissionError):
            keda.execute_command(*words)
