"""Signed tokens: valid for one chat, some actions and a limited time, and for nothing else (promise 12)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from chunkspool.errors import InvalidInput, SettingsError
from chunkspool.web import AccessDenied, Action, GrantedUntil, SignedTokens

SECRET = "a secret of enough characters"
NOW = 1_000_000.0


def tokens(secret: str = SECRET, now: float = NOW) -> SignedTokens:
    """Return signed tokens whose clock stands still."""
    return SignedTokens(secret, clock=lambda: now)


def request(authorization: str | None = None, query: str = "") -> Request:
    """Return a request with or without a token."""
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request({"type": "http", "method": "GET", "headers": headers, "query_string": query.encode()})


def test_a_token_is_valid_only_for_its_chat_and_actions() -> None:
    """Not for another chat, another action or another tenant."""
    signed = tokens()
    asked = request(f"Bearer {signed.issue('c1', ['ask', 'read'])}")
    answers = [
        signed(asked, tenant, chat, action)
        for tenant, chat, action in [
            ("default", "c1", "ask"),
            ("default", "c1", "read"),
            ("default", "c1", "erase"),
            ("default", "c2", "read"),
            ("other", "c1", "read"),
        ]
    ]
    until = GrantedUntil(NOW + 3600)
    assert answers == [until, until, False, False, False]


def test_a_star_means_any_chat_of_the_tenant() -> None:
    """A token for "*" is valid in every chat of its tenant and in none of another tenant."""
    signed = tokens()
    asked = request(f"bearer {signed.issue('*', ['erase'], tenant='t')}")
    assert signed(asked, "t", "whatever", "erase")
    assert not signed(asked, "default", "whatever", "erase")


def test_the_query_is_for_event_sources_and_the_header_wins() -> None:
    """`?token=` works, because a browser's EventSource cannot set headers; with both, only the header counts."""
    signed = tokens()
    good, other = signed.issue("c1", ["read"]), signed.issue("c2", ["read"])
    assert signed(request(query=f"token={good}"), "default", "c1", "read")
    assert not signed(request(f"Bearer {other}", f"token={good}"), "default", "c1", "read")


def test_a_token_expires() -> None:
    """Once its time is over, a token is rejected."""
    token = tokens().issue("c1", seconds=60)
    assert tokens(now=NOW + 59)(request(f"Bearer {token}"), "default", "c1", "read")
    with pytest.raises(AccessDenied, match="expired"):
        tokens(now=NOW + 60)(request(f"Bearer {token}"), "default", "c1", "read")


def test_every_single_changed_character_is_noticed() -> None:
    """Changing any character of a token makes it invalid."""
    token = tokens().issue("c1", ["read"])
    for i, old in enumerate(token):
        forged = f"{token[:i]}{'A' if old != 'A' else 'Q'}{token[i + 1 :]}"
        with pytest.raises(AccessDenied):
            tokens()(request(f"Bearer {forged}"), "default", "c1", "read")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer x",
        "Bearer v1.x.y",
        "Bearer ..",
        "Bearer ü.ü.ü",
        "Bearer v1.=.=",
    ],
)
def test_a_missing_or_malformed_token_is_rejected(authorization: str | None) -> None:
    """It raises AccessDenied, never another error."""
    with pytest.raises(AccessDenied):
        tokens()(request(authorization), "default", "c1", "read")


def test_a_token_that_was_signed_with_another_secret_is_rejected() -> None:
    """Without the secret nobody can make a valid token, and every token has an expiry."""
    token = SignedTokens("another secret, just as long").issue("c1", ["read"])
    with pytest.raises(AccessDenied):
        tokens()(request(f"Bearer {token}"), "default", "c1", "read")
    _, payload, _ = token.split(".")
    grant: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert set(grant) == {"tenant", "chat", "actions", "expires"}


@pytest.mark.parametrize(
    ("chat", "actions", "seconds"),
    [
        ("a{b", ["read"], 60),
        ("c1", ["write"], 60),
        ("c1", "read", 60),
        ("c1", ["read"], 0),
        ("c1", ["read"], float("inf")),
    ],
)
def test_an_invalid_token_is_not_issued(chat: str, actions: Sequence[Action], seconds: float) -> None:
    """Invalid chat ids, unknown actions, and tokens that never expire or have already expired."""
    with pytest.raises(InvalidInput):
        tokens().issue(chat, actions, seconds=seconds)


def test_a_short_secret_is_rejected() -> None:
    """A secret needs at least sixteen characters."""
    with pytest.raises(SettingsError):
        SignedTokens("short")
