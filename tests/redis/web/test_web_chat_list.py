"""The list of chats over HTTP: whoever may list sees their own chats, or the tenant's, and nobody else's."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request
from support.web.web_server import Site, problem, serve_web_app

from chunkspool import Spool
from chunkspool.errors import InvalidInput
from chunkspool.store.keys import ChatKeys
from chunkspool.web import Action, GrantedUntil, SignedTokens

SECRET = "a secret of more than thirty-two bytes"
LIST = "/v1/chats"


@pytest.fixture
def three_chats(spool: Spool) -> Spool:
    """Give a spool with a chat of ada, one of bob, and one of nobody's."""
    for chat, owner in (("hers", "ada"), ("his", "bob"), ("nobodys", None)):
        spool.enqueue(chat, "hello", owner=owner)
    return spool


def ids(reply: Any) -> list[str]:
    """Return the chats of an answer, in alphabetical order."""
    assert reply.status_code == 200
    return sorted(one["chat_id"] for one in reply.json()["chats"])


def bearer(signed: SignedTokens, actions: list[Action], owner: str | None = None) -> dict[str, str]:
    """Return the header with a token for every chat."""
    return {"Authorization": f"Bearer {signed.issue('*', actions, owner=owner)}"}


def test_a_list_says_how_each_chat_stands(spool: Spool, site: Site) -> None:
    """As `Spool.chats` does; it is stored nowhere on the way."""
    made = spool.enqueue("chat", "hello")
    assert site.client.put(f"{LIST}/chat/title", json={"title": "Spring"}).status_code == 204
    reply = site.client.get(LIST)
    (chat,) = reply.json()["chats"]
    (known,) = spool.chats().chats
    assert chat == {
        "chat_id": "chat",
        "title": "Spring",
        "state": "queued",
        "generation": made.generation_id,
        "active": [made.generation_id],
        "last": 1,
        "created": known.created,
        "asked": known.asked,
    }
    assert (reply.json()["before"], reply.json()["failed"]) == (None, [])
    assert reply.headers["cache-control"] == "no-store"
    assert site.client.put(f"{LIST}/chat/title", json={"title": None}).status_code == 204
    assert site.client.get(LIST).json()["chats"][0]["title"] is None


@pytest.mark.usefixtures("three_chats")
def test_a_token_lists_its_owners_chats(redis_url: str) -> None:
    """One without an owner lists the tenant's, as it says, or those of an owner who is asked for."""
    signed = SignedTokens(SECRET)
    ada, everybody = bearer(signed, ["list"], "ada"), bearer(signed, ["list"])
    with serve_web_app(redis_url, signed) as site:
        assert ids(site.client.get(LIST, headers=ada)) == ["hers"]
        assert ids(site.client.get(LIST, params={"owner": "ada"}, headers=ada)) == ["hers"]
        assert site.client.get(LIST, params={"owner": "bob"}, headers=ada).status_code == 403
        assert ids(site.client.get(LIST, headers=everybody)) == ["hers", "his", "nobodys"]
        assert ids(site.client.get(LIST, params={"owner": "bob"}, headers=everybody)) == ["his"]


@pytest.mark.usefixtures("three_chats")
def test_the_right_to_list_is_one_of_its_own(redis_url: str) -> None:
    """Whoever may do all else may not list, and the other way round."""
    signed = SignedTokens(SECRET)
    others: list[Action] = ["ask", "read", "stop", "erase"]
    with serve_web_app(redis_url, signed) as site:
        assert site.client.get(LIST).status_code == 401
        assert site.client.get(LIST, headers=bearer(signed, others, "ada")).status_code == 403
        lister = bearer(signed, ["list"], "ada")
        assert site.client.get(f"{LIST}/hers", headers=lister).status_code == 403
        assert site.client.put(f"{LIST}/hers/title", json={"title": "x"}, headers=lister).status_code == 403
        assert site.client.put(f"{LIST}/hers/title", json={"title": "x"}, headers=bearer(signed, ["ask"])).is_success
    with pytest.raises(InvalidInput, match=r'for the chat "\*"'):
        signed.issue("hers", ["list"])


@pytest.mark.usefixtures("three_chats")
def test_a_hook_that_knows_nothing_of_lists_lists_nothing(redis_url: str) -> None:
    """One that returns True for whoever is logged in was not asked about everybody's chats."""
    asked: list[tuple[str, str]] = []

    def is_logged_in(request: Request, _tenant: str, chat_id: str, action: Action) -> bool | GrantedUntil:
        asked.append((chat_id, action))
        owner = request.headers.get("x-owner")
        return GrantedUntil(owner=owner) if owner else True

    with serve_web_app(redis_url, is_logged_in) as site:
        refused = site.client.get(LIST)
        assert (refused.status_code, "whose" in problem(refused)["detail"]) == (403, True)
        assert ids(site.client.get(LIST, headers={"x-owner": "bob"})) == ["his"]
    assert asked == [("*", "list")] * 2


def test_pages_lead_through_the_list(spool: Spool, site: Site) -> None:
    """Each chat once."""
    for at in range(5):
        spool.enqueue(f"c{at}", "hello")
    first = site.client.get(LIST, params={"limit": 3}).json()
    second = site.client.get(LIST, params={"limit": 3, "before": first["before"]}).json()
    assert [one["chat_id"] for page in (first, second) for one in page["chats"]] == ["c4", "c3", "c2", "c1", "c0"]
    assert second["before"] is None


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"limit": 0}, 422),
        ({"limit": 501}, 422),
        ({"before": "x"}, 422),
        ({"owner": "a b"}, 422),
        ({"limit": "x"}, 422),
    ],
)
def test_a_bad_request_is_told(site: Site, params: dict[str, Any], status: int) -> None:
    """What is wrong stands in the problem."""
    reply = site.client.get(LIST, params=params)
    assert reply.status_code == status
    assert problem(reply)["detail"]


@pytest.mark.parametrize("body", [{}, {"title": ""}, {"title": "two\nlines"}, {"title": "x" * 201}, {"title": 5}, []])
def test_a_bad_title_is_told(spool: Spool, site: Site, body: Any) -> None:
    """It has to be one line of text, or null."""
    spool.enqueue("chat", "hello")
    assert site.client.put(f"{LIST}/chat/title", json=body).status_code == 422
    assert site.client.put(f"{LIST}/none/title", json={"title": "x"}).status_code == 404


def test_a_chat_that_cannot_be_read_is_named(spool: Spool, site: Site, client: Any) -> None:
    """Without its error: that is for the log."""
    spool.enqueue("broken", "hello")
    key = ChatKeys("default", "broken").seq
    client.delete(key)
    client.hset(key, "foreign", 1)
    client.expire(key, 60)
    reply = site.client.get(LIST).json()
    assert (reply["chats"], reply["failed"]) == ([], ["broken"])
