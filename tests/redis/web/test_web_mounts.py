"""The web routes, mounted in apps of other frameworks as in the examples and docs/how-to/web/mount.md."""

from __future__ import annotations

import runpy

import django.conf
import pytest
from starlette.types import ASGIApp
from support.chats.logs import CHAT
from support.chats.spools import spool_for
from support.processes.nodes import PROJECT
from support.web.web_server import problem, serve_app

from chunkspool.web import SignedTokens

SECRET = "a secret of more than thirty-two bytes"
HISTORY = [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "x"}]}]


def load_app(name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> ASGIApp:
    """Run an example; return its app."""
    monkeypatch.setenv("CHUNKSPOOL_REDIS_URL", redis_url)
    monkeypatch.setenv("CHUNKSPOOL_TOKEN_SECRET", SECRET)
    if name == "django" and not django.conf.settings.configured:
        django.conf.settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="support.web.django_urls", SECRET_KEY="x")
    app: ASGIApp = runpy.run_path(str(PROJECT / "examples" / f"mounted_in_{name}.py"))["app"]
    return app


@pytest.mark.parametrize("name", ["fastapi", "starlette", "litestar", "django"])
def test_mounted_below_a_path(name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking, following, resuming, stopping, useChat and problems all work below `/chat`."""
    token = SignedTokens(SECRET).issue(CHAT, ["ask", "read", "stop", "erase"])
    with serve_app(load_app(name, redis_url, monkeypatch)) as site, spool_for(redis_url) as spool:
        assert site.client.get("/chat/healthz").status_code == 200
        assert problem(site.client.get(f"/chat/v1/chats/{CHAT}"))["status"] == 401
        site.client.headers["Authorization"] = f"Bearer {token}"
        made = site.client.post(f"/chat/v1/chats/{CHAT}/generations", json={"prompt": "hello"}).json()
        assert made["links"]["chat"] == f"/chat/v1/chats/{CHAT}"
        with spool.produce(CHAT, made["generation"]) as out, site.open_stream(made["links"]["events"]) as stream:
            out.text("hello")
            stream.read_until(lambda s: s.seqs == [1, 2, 3, 4])
            out.__exit__(None, None, None)
            assert stream.read_to_end().seqs == [1, 2, 3, 4, 5]
        with site.open_stream(made["links"]["events"], headers={"Last-Event-ID": "2"}) as resumed:
            assert resumed.read_to_end().seqs == [3, 4, 5]
        assert site.client.post(made["links"]["stop"]).json() == {"stops": []}
        with site.open_stream("/chat/api/chat", "POST", json={"id": CHAT, "messages": HISTORY}) as stream:
            stream.read_until(lambda s: bool(s.events))
        assert problem(site.client.get("/chat/v1/chats/none/events"))["status"] == 403
        assert site.client.delete(made["links"]["chat"]).status_code == 204
        if name == "django":
            assert site.client.get("/hello").text == "hello from Django"


def test_the_docs_show_the_examples() -> None:
    """docs/how-to/web/mount.md contains the tested examples, without their docstrings."""
    text = (PROJECT / "docs" / "how-to" / "web" / "mount.md").read_text()
    for name in ("fastapi", "starlette", "litestar", "django"):
        example = (PROJECT / "examples" / f"mounted_in_{name}.py").read_text()
        assert example.partition('"""\n\n')[2].strip() in text, name
