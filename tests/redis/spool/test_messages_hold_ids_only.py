"""A Celery message holds three ids: Flower, logs and anyone who reads the queue see no prompt."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from support.chats.logs import CHAT
from support.chats.spools import settings_for
from support.readers.blocking_spool import SPOOL_KINDS, BlockingSpool, BlockingSyncSpool, open_spool
from support.servers.contents import find_keys_containing

from chunkspool import Spool

SECRET = "the diagnosis of Mrs Miller"


@pytest.fixture(params=SPOOL_KINDS)
def any_spool(request: pytest.FixtureRequest, redis_url: str) -> Iterator[BlockingSpool]:
    """Provide a spool of each kind."""
    with open_spool(request.param, redis_url, tenant="clinic", queue="answers", task="own.generate") as any_spool:
        yield any_spool


def enqueue_secrets(any_spool: BlockingSpool) -> str:
    """Enqueue with a secret in every possible place; return the generation's id."""
    made = any_spool.enqueue(
        CHAT,
        messages=[{"role": "user", "content": SECRET, "name": SECRET}],
        model=SECRET,
        params={"metadata": {SECRET: SECRET}},
        owner="owner-7",
        request_id="request-7",
    )
    return str(made.generation_id)


def read_message(client: Redis, queue: str) -> dict[str, Any]:
    """Return the only message in the queue, as the broker stores it."""
    (raw,) = client.lrange(queue, 0, -1)
    message: dict[str, Any] = json.loads(raw)
    return message


def test_the_message_is_three_ids(any_spool: BlockingSpool, client: Redis) -> None:
    """Tenant, chat and generation; the task id is the generation's id."""
    made = enqueue_secrets(any_spool)
    message = read_message(client, "answers")
    arguments, keywords, embedded = json.loads(base64.b64decode(message["body"]))
    assert (arguments, keywords) == (["clinic", CHAT, made], {})
    assert not any(embedded.values())
    headers = message["headers"]
    assert (headers["id"], headers["task"], headers["ignore_result"]) == (made, "own.generate", True)
    assert headers["argsrepr"] == repr(["clinic", CHAT, made])
    assert message["content-type"] == "application/json"
    assert message["properties"]["delivery_info"]["routing_key"] == "answers"


def test_the_prompt_is_stored_only_in_the_chat(any_spool: BlockingSpool, client: Redis) -> None:
    """It is in the generation's hash, which an erase removes; not in the broker's keys or in an event."""
    made = enqueue_secrets(any_spool)
    assert find_keys_containing(client, SECRET) == [f"cs:{{clinic/{CHAT}}}:gen:{made}"]
    any_spool.erase(CHAT)
    for secret in (SECRET, "owner-7", "request-7"):
        assert find_keys_containing(client, secret) == []


def test_a_passed_in_app_sends_the_same_message(redis_url: str, client: Redis) -> None:
    """Whatever serializer, queue or routing its other tasks use."""
    with Celery("own", broker=redis_url, set_as_current=False) as app, Redis.from_url(redis_url) as own:
        app.conf.update(task_serializer="pickle", accept_content=["pickle"], task_default_queue="others")
        settings = settings_for(redis_url, tenant="clinic", queue="answers", task="own.generate")
        with Spool(own, app, settings=settings) as spool:
            made = enqueue_secrets(BlockingSyncSpool(spool))
    message = read_message(client, "answers")
    assert json.loads(base64.b64decode(message["body"]))[0] == ["clinic", CHAT, made]
    assert client.llen("others") == 0
