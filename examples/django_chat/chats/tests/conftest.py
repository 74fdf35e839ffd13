"""Fixtures. The views use the test's spool; its worker and its model run in this process."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from chunkspool import Spool
from examples.django_chat.chats import spools
from examples.django_chat.chats.models import Chat


@pytest.fixture(autouse=True)
def spool(monkeypatch: pytest.MonkeyPatch, chunkspool_spool: Spool) -> Spool:
    monkeypatch.setattr(spools, "get_spool", lambda: chunkspool_spool)
    return chunkspool_spool


@pytest.fixture
def ann(transactional_db: None) -> User:  # noqa: ARG001 - in the transaction of `db`, nothing would be enqueued
    return User.objects.create_user("ann", password="open sesame")


@pytest.fixture
def client(ann: User) -> Client:
    """Give ann's browser. It needs no CSRF token, unlike a real one."""
    browser = Client()
    browser.force_login(ann)
    return browser


@pytest.fixture
def chat(ann: User) -> Chat:
    return Chat.objects.create(owner=ann)
