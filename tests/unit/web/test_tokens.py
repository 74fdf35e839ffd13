"""Signed tokens: valid for one chat, some actions and a limited time, and for nothing else (promise 12)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import Request

from chunkspool import Settings
from chunkspool.errors import InvalidId, InvalidInput, SettingsError
from chunkspool.web import AccessDenied, Action, GrantedUntil, SignedTokens

SECRET = "a secret of more than thirty-two bytes"
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
    token = SignedTokens("another secret that is just as long as it").issue("c1", ["read"])
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


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, f"{SECRET},short", f"{SECRET},", f",{SECRET}"])
def test_a_short_secret_is_rejected(secret: str) -> None:
    """A secret needs at least 32 bytes; so does each of several. The message does not show it."""
    with pytest.raises(SettingsError, match="commas.* at least 32 bytes") as refused:
        SignedTokens(secret)
    assert not secret or secret not in str(refused.value)


def test_a_secret_can_be_changed_while_tokens_are_out() -> None:
    """The first of several secrets signs, and all verify: no token is lost while all processes get the new one."""
    old, new = SECRET, "the new one which is as long as the old one"
    both = tokens(f"{new}, {old}")
    assert both(request(f"Bearer {tokens(old).issue('c1')}"), "default", "c1", "read")
    assert tokens(new)(request(f"Bearer {both.issue('c1')}"), "default", "c1", "read")
    with pytest.raises(AccessDenied):
        tokens(new)(request(f"Bearer {tokens(old).issue('c1')}"), "default", "c1", "read")
    with pytest.raises(AccessDenied):
        tokens(old)(request(f"Bearer {both.issue('c1')}"), "default", "c1", "read")


def test_tokens_are_for_the_tenant_of_the_spool() -> None:
    """Those of the settings' tenant by default; an app for another tenant is not made with them."""
    settings = Settings.checked({"tenant": "acme", "token_secret": SECRET})
    signed = SignedTokens.from_settings(settings)
    token = signed.issue("c1")
    assert signed(request(f"Bearer {token}"), "acme", "c1", "read")
    assert not signed(request(f"Bearer {token}"), "default", "c1", "read")
    signed.require_tenant("acme")
    with pytest.raises(SettingsError, match="tenant 'acme', and the spool has 'other'"):
        signed.require_tenant("other")
    with pytest.raises(InvalidId):
        SignedTokens(SECRET, tenant="a/b")


def test_a_token_may_say_whose_it_is() -> None:
    """One without an owner has no such field, so versions that do not know it can verify it."""
    with_owner, without = tokens().issue("c1", owner="me"), tokens().issue("c1")
    granted = tokens()(request(f"bearer {with_owner}"), "default", "c1", "read")
    assert isinstance(granted, GrantedUntil)
    assert granted.owner == "me"
    assert b"owner" not in base64.urlsafe_b64decode(without.split(".")[1] + "==")
