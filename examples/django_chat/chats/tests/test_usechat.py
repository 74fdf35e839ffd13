"""Tests of the views for `useChat`."""

import json

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.test import Client

from chunkspool import Spool
from chunkspool.testing import assert_answers
from chunkspool.testing.model import ScriptedModel
from examples.django_chat.chats.models import Chat

PARTS = [{"type": "text", "text": "Why is the sky blue?"}]


def send(client: Client, chat_id: str, **changed: object) -> HttpResponse:
    """Send what the SDK sends."""
    message = {"id": "m1", "role": "user", "parts": PARTS}
    body = {"id": chat_id, "messages": [message], "trigger": "submit-message", **changed}
    return client.post("/api/chat?sdk=7", body, "application/json")


def read_chunks(response: HttpResponse) -> list[dict[str, str]]:
    lines = b"".join(response.streaming_content).decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


@pytest.mark.usefixtures("chunkspool_worker")
@pytest.mark.parametrize("atomic_requests", [False, True])
def test_an_answer_is_streamed_and_kept(
    client: Client,
    chat: Chat,
    chunkspool_model: ScriptedModel,
    monkeypatch: pytest.MonkeyPatch,
    atomic_requests: bool,
) -> None:
    """The message is saved, and both are what a page loads later; ATOMIC_REQUESTS or not."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
    chunkspool_model.will_say("Because ", {"wait": 0.1}, "of Rayleigh.")
    chunks = read_chunks(send(client, chat.pk))
    assert "".join(chunk.get("delta", "") for chunk in chunks) == "Because of Rayleigh."
    assert chat.messages.get().parts == PARTS
    loaded = client.get(f"/api/chat/{chat.pk}/messages?sdk=7").json()
    assert [message["role"] for message in loaded["messages"]] == ["user", "assistant"]
    assert client.get(f"/api/chat/{chat.pk}/stream").status_code == 204


def test_a_reload_resumes_and_stop_stops(client: Client, chat: Chat) -> None:
    """Without a worker the answer waits, so that it is still active."""
    send(client, chat.pk)
    resumed = client.get(f"/api/chat/{chat.pk}/stream?sdk=7")
    assert client.post(f"/api/chat/{chat.pk}/stop").status_code == 202
    assert read_chunks(resumed)[-1]["type"] == "abort"


@pytest.mark.usefixtures("chunkspool_worker")
def test_a_message_that_is_refused_can_be_sent_again(client: Client, chat: Chat, spool: Spool) -> None:
    """It is saved once, and answered once."""
    spool.set_policy(owner_queued=0)
    assert send(client, chat.pk).status_code == 429
    spool.set_policy(owner_queued=None)
    assert [send(client, chat.pk).status_code for _ in range(2)] == [200, 200]
    assert chat.messages.count() == 1
    assert_answers(spool, chat.pk, f"You said: {PARTS[0]['text']}")


@pytest.mark.usefixtures("chunkspool_worker")
def test_an_edited_message_takes_the_place_of_the_old_one(client: Client, chat: Chat) -> None:
    """The SDK names it in `messageId`."""
    read_chunks(send(client, chat.pk))
    edited = [{"type": "text", "text": "And the sea?"}]
    message = {"id": "m1", "role": "user", "parts": edited}
    assert send(client, chat.pk, messages=[message]).status_code == 422
    read_chunks(send(client, chat.pk, messages=[message], messageId="m1"))
    assert chat.messages.get().parts == edited


def test_chats_are_private(client: Client, chat: Chat) -> None:
    """Another's chat is as one that does not exist."""
    send(client, chat.pk)
    ben = Client()
    assert send(ben, chat.pk).status_code == 401
    ben.force_login(User.objects.create_user("ben"))
    assert (send(ben, chat.pk).status_code, send(ben, "nobodys").status_code) == (404, 404)
    for what in ("stream", "messages"):
        assert ben.get(f"/api/chat/{chat.pk}/{what}").content == ben.get(f"/api/chat/nobodys/{what}").content
    assert chat.messages.count() == 1


def test_users_may_not_choose_everything(client: Client, chat: Chat) -> None:
    """The model and its instructions are the app's."""
    refused = send(client, chat.pk, params={"script": []})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:chunkspool:problem:refused")
    assert send(client, chat.pk, messages=[]).status_code == 422
    assert client.get(f"/api/chat/{chat.pk}/stream?sdk=x").status_code == 422
