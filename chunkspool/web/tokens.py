"""Signed, expiring tokens, scoped to a chat and to actions: a ready-made `authorize`."""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection
from typing import Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from chunkspool.errors import InvalidInput, SettingsError
from chunkspool.ids import checked_id
from chunkspool.settings import Settings, variable_of
from chunkspool.web.access import AccessDenied, Action

ANY_CHAT = "*"
SHORTEST_SECRET = 16
_VERSION = "v1"


class _Grant(BaseModel):
    """What a token says: `expires` is in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tenant: str
    chat: str
    actions: list[Action]
    expires: int


class SignedTokens:
    """Makes tokens, and checks them in the routes. Nothing is stored: whoever knows the secret can do both.

    A token comes as `Authorization: Bearer …`, or as the query parameter `token` where a browser's EventSource can set
    no header.
    """

    def __init__(self, secret: str, *, clock: Callable[[], float] = time.time) -> None:
        """`secret` is the same in all processes. Raises `SettingsError` for one that can be guessed."""
        if len(secret) < SHORTEST_SECRET:
            raise SettingsError(f"a token secret has at least {SHORTEST_SECRET} characters")
        self._secret = secret.encode()
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Use the setting `token_secret`. Raises `SettingsError` where there is none, or one that can be guessed."""
        if settings.web.token_secret is None:
            raise SettingsError(f"tokens need a secret: set {variable_of('token_secret')}")
        return cls(settings.web.token_secret.get_secret_value())

    def issue(
        self,
        chat_id: str,
        actions: Collection[Action] = ("ask", "read", "stop"),
        *,
        seconds: float = 3600,
        tenant: str = "default",
    ) -> str:
        """Return a token for these actions in this chat ("*": any chat of the tenant). Raises `InvalidInput`."""
        if chat_id != ANY_CHAT:
            checked_id("chat_id", chat_id)
        checked_id("tenant", tenant)
        unknown = set(actions) - set(get_args(Action))
        if unknown or isinstance(actions, str):
            raise InvalidInput(f"actions={actions!r}: pass some of {', '.join(get_args(Action))}")
        if not 0 < seconds < math.inf:
            raise InvalidInput(f"seconds={seconds!r}: pass how long the token is good for")
        expires = math.ceil(self._clock() + seconds)
        grant = _Grant(tenant=tenant, chat=chat_id, actions=sorted(actions), expires=expires)
        said = f"{_VERSION}.{_encoded(grant.model_dump_json().encode())}"
        return f"{said}.{_encoded(self._signature(said))}"

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> bool:
        """Tell whether the request's token grants `action`. Raises `AccessDenied` where it has no good token."""
        grant = self._checked(_token_of(request))
        return grant.tenant == tenant and grant.chat in {chat_id, ANY_CHAT} and action in grant.actions

    def _checked(self, token: str) -> _Grant:
        said, _, signature = token.rpartition(".")
        version, _, payload = said.partition(".")
        try:
            signed = hmac.compare_digest(_decoded(signature), self._signature(said))
            if not signed or version != _VERSION:
                raise AccessDenied("the token is not one of ours")
            grant = _Grant.model_validate_json(_decoded(payload))
        except (ValueError, ValidationError):
            raise AccessDenied("the token is not one of ours") from None
        if grant.expires <= self._clock():
            raise AccessDenied("the token has expired")
        return grant

    def _signature(self, said: str) -> bytes:
        return hmac.digest(self._secret, said.encode(), hashlib.sha256)


def _token_of(request: Request) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else request.query_params.get("token", "")
    if not token:
        raise AccessDenied("a token is needed: Authorization: Bearer …")
    return token


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    if _encoded(data) != text:  # Python's decoder passes over what it does not know
        raise ValueError("not canonical")
    return data
