"""Tests of the plain views."""

import json

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import Client

from chunkspool import Spool
from chunkspool.errors import ChatNotFound
from chunkspool.testing import assert_answers
from chunkspool.testing.model import ScriptedModel
from examples.django_chat.chats import views
from examples.django_chat.chats.models import Chat, Message

QUESTION = {"id": "question-1", "text": "Why is the sky blue?"}


def ask(client: Client, chat_id: str, **changed: str) -> HttpResponse:
    return client.post(f"/chats/{chat_id}", {**QUESTION, **changed}, "application/json")


def read_events(client: Client, chat_id: str, **headers: str) -> list[dict[str, str]]:
    response = client.get(f"/chats/{chat_id}/events", headers=headers)
    assert (response.status_code, response["Content-Type"].split(";")[0]) == (200, "text/event-stream")
    lines = b"".join(response.streaming_content).decode().splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.mark.usefixtures("chunkspool_worker")
def test_a_question_is_answered(client: Client, chunkspool_model: ScriptedModel) -> None:
    """From the making of the chat to the last event."""
    chunkspool_model.will_say("Because of ", {"wait": 0.1}, "Rayleigh.")
    chat_id = client.post("/chats").json()["id"]
    assert ask(client, chat_id).status_code == 202
    events = read_events(client, chat_id)
    assert "".join(event.get("text", "") for event in events) == "Because of Rayleigh."
    assert events[-1]["type"] == "generation.completed"
    assert [chat["id"] for chat in client.get("/chats").json()["chats"]] == [chat_id]


@pytest.mark.usefixtures("chunkspool_worker")
def test_what_is_sent_again_is_saved_and_answered_once(client: Client, chat: Chat, spool: Spool) -> None:
    """Also after its answer; another text under its id is refused."""
    assert [ask(client, chat.pk).status_code for _ in range(2)] == [202, 202]
    assert_answers(spool, chat.pk, f"You said: {QUESTION['text']}")
    assert ask(client, chat.pk).status_code == 202
    assert_answers(spool, chat.pk, f"You said: {QUESTION['text']}")
    assert ask(client, chat.pk, text="And the sea?").status_code == 422
    assert chat.messages.get().parts == [{"type": "text", "text": QUESTION["text"]}]


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_question_that_is_refused_can_be_asked_again(
    client: Client, chat: Chat, spool: Spool, monkeypatch: pytest.MonkeyPatch, atomic_requests: bool
) -> None:
    """It is saved before it is refused, and the next try answers it; ATOMIC_REQUESTS or not."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)
    spool.set_policy(owner_queued=0)
    refused = ask(client, chat.pk)
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:chunkspool:problem:limit-exceeded")
    assert chat.messages.count() == 1
    spool.set_policy(owner_queued=None)
    assert ask(client, chat.pk).status_code == 202
    assert chat.messages.count() == 1
    assert len(spool.status(chat.pk).active) == 1


def test_a_request_that_is_rolled_back_leaves_nothing(
    client: Client, chat: Chat, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row and no generation, if the request fails after its view has done its work."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    monkeypatch.delattr(views, "JsonResponse")
    with pytest.raises(NameError):
        ask(client, chat.pk)
    assert not Message.objects.exists()
    with pytest.raises(ChatNotFound):
        spool.status(chat.pk)


def test_stop_ends_the_answer(client: Client, chat: Chat) -> None:
    """Without a worker the question waits, and the stop is its ending."""
    ask(client, chat.pk)
    assert len(client.post(f"/chats/{chat.pk}/stop").json()["stops"]) == 1
    events = read_events(client, chat.pk)
    assert [event["type"] for event in events] == ["message", "generation.queued", "generation.stopped"]
    last = client.get(f"/chats/{chat.pk}/events", {"after": len(events)})
    assert last.status_code == 204


def test_chats_are_private(client: Client, chat: Chat) -> None:
    """Who is not logged in gets a 401; who is, the same 404 for another's chat as for one that does not exist."""
    ask(client, chat.pk)
    ben = Client()
    routes = [("get", "events"), ("post", "stop")]
    replies = [ask(ben, chat.pk), *(getattr(ben, how)(f"/chats/{chat.pk}/{what}") for how, what in routes)]
    assert [reply.status_code for reply in replies] == [401, 401, 401]
    ben.force_login(User.objects.create_user("ben"))
    for how, what in routes:
        theirs, nobodys = (getattr(ben, how)(f"/chats/{chat_id}/{what}") for chat_id in (chat.pk, "nobodys"))
        assert (theirs.status_code, theirs.content) == (404, nobodys.content)
    assert ask(ben, chat.pk).content == ask(ben, "nobodys").content
    assert len(client.get("/chats").json()["chats"]) == 1
    assert ben.get("/chats").json() == {"chats": []}


def test_posts_need_a_csrf_token(chat: Chat) -> None:
    """The login form's own, and after it the one of the session."""
    browser = Client(enforce_csrf_checks=True)
    form = {"username": "ann", "password": "open sesame"}
    assert browser.post("/accounts/login/", form).status_code == 403
    token = browser.get("/accounts/login/").cookies["csrftoken"].value
    assert browser.post("/accounts/login/", form, headers={"X-CSRFToken": token}).status_code == 302
    refused = ask(browser, chat.pk)
    assert (refused.status_code, refused["Content-Type"]) == (403, "application/problem+json")
    token = browser.cookies["csrftoken"].value
    asked = browser.post(f"/chats/{chat.pk}", QUESTION, "application/json", headers={"X-CSRFToken": token})
    assert asked.status_code == 202


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"id": "a b", "text": "x"}', '{"id": "a", "text": ""}'])
def test_what_is_wrong_is_a_problem(client: Client, chat: Chat, body: str) -> None:
    """And nothing is saved."""
    reply = client.post(f"/chats/{chat.pk}", body, "application/json")
    assert (reply.status_code, reply.json()["status"]) == (422, 422)
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_the_migrations_are_those_of_the_models() -> None:
    """Nothing is left to be made."""
    call_command("makemigrations", check=True, dry_run=True)


@pytest.mark.usefixtures("chunkspool_worker")
def test_a_deleted_user_leaves_no_answer(client: Client, ann: User, chat: Chat, spool: Spool) -> None:
    """Nor a question; and while the deletion may still be undone, nothing is erased."""
    ask(client, chat.pk)
    read_events(client, chat.pk)
    with transaction.atomic():
        User.objects.filter(pk=ann.pk).delete()
        transaction.set_rollback(True)
    assert spool.read(chat.pk)
    ann.delete()
    with pytest.raises(ChatNotFound):
        spool.read(chat.pk)
