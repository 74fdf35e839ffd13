"""Fixtures of the tests in a browser, and of those with the Django example."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from support.chats.spools import async_spool_for, spool_for
from support.web.browser import run_chromium
from support.web.chat_page import PageEnvironment
from support.web.django_chat import make_database
from support.web.web_server import BlackHole, serve_app

from chunkspool.web import allow_all, create_app

FLOWER = "http://flower.example:5555"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a browser."""
    with run_chromium() as running:
        yield running


@pytest.fixture
def env(redis_url: str, browser: Browser) -> Iterator[PageEnvironment]:
    """Give an app with the page."""
    shutting_down = threading.Event()
    spool = async_spool_for(redis_url, flower_url=FLOWER, heartbeat=1, keep_messages=True)
    app = create_app(spool, allow_all, page=True, is_shutting_down=shutting_down.is_set, closes_spool=True)
    hole = BlackHole(app)
    with serve_app(hole) as site, spool_for(redis_url) as worker:
        opened = PageEnvironment(site, worker, browser, shutting_down, hole)
        yield opened
        hole.open.clear()
        for context in opened.contexts:
            context.close()
        shutting_down.set()


@pytest.fixture(scope="session")
def django_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the database of the Django example; each test copies it."""
    return make_database(tmp_path_factory.mktemp("django"))
