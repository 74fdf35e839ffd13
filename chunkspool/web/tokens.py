"""Signed, expiring tokens that are valid for one chat and some actions: a ready-made `authorize`."""

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
from chunkspool.settings import Settings, split_secrets, variable_of
from chunkspool.web.access import ANY_CHAT, AccessDenied, Action, GrantedUntil, Verdict

_VERSION = "v1"


class _Grant(BaseModel):
    """The signed content of a token. `expires` is in Unix seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tenant: str
    chat: str
    actions: list[Action]
    expires: int
    owner: str | None = None


class SignedTokens:
    """Issues tokens, and verifies them in the routes. Nothing is stored; both need only the secret.

    A token is sent as `Authorization: Bearer …`, or as the query parameter `token`, because a browser's EventSource
    cannot set headers.
    """

    def __init__(self, secret: str, *, tenant: str = "default", clock: Callable[[], float] = time.time) -> None:
        """`secret` must be the same in all processes, and `tenant` the spool's.

        To change the secret, put the new one in front of the old one, with a comma between: the first signs, all
        verify. Raises `SettingsError` if one is short enough to be guessed, and `InvalidId`.
        """
        try:
            self._secrets = tuple(secret.encode() for secret in split_secrets(secret))
        except ValueError as error:
            raise SettingsError(str(error)) from None
        self._tenant = checked_id("tenant", tenant)
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Use the settings `token_secret` and `tenant`. Raises `SettingsError` if the secret is missing."""
        if settings.web.token_secret is None:
            raise SettingsError(f"tokens need a secret: set {variable_of('token_secret')}")
        return cls(settings.web.token_secret.get_secret_value(), tenant=settings.log.tenant)

    def require_tenant(self, tenant: str) -> None:
        """Raise `SettingsError` if tokens are issued for another tenant than `tenant`: none of them would be valid."""
        if tenant != self._tenant:
            raise SettingsError(
                f"the tokens are issued for tenant {self._tenant!r}, and the spool has {tenant!r}: make them by "
                "SignedTokens.from_settings(spool.settings), or pass tenant="
            )

    def issue(
        self,
        chat_id: str,
        actions: Collection[Action] = ("ask", "read", "stop"),
        *,
        seconds: float = 3600,
        tenant: str | None = None,
        owner: str | None = None,
    ) -> str:
        """Return a token for these actions in this chat ("*": any chat of the tenant). Raises `InvalidInput`.

        It is valid for `seconds`, and for the own tenant unless `tenant` names one of several. `owner` says whose it
        is, for the limits of an owner. "list", which needs the chat "*", lists the chats of the owner; without one, the
        tenant's.
        """
        if chat_id != ANY_CHAT:
            checked_id("chat_id", chat_id)
        of_tenant = self._tenant if tenant is None else checked_id("tenant", tenant)
        unknown = set(actions) - set(get_args(Action))
        if unknown or isinstance(actions, str):
            raise InvalidInput(f"actions={actions!r}: pass some of {', '.join(get_args(Action))}")
        if "list" in actions and chat_id != ANY_CHAT:
            raise InvalidInput(f'"list" is for the chat "*", not for {chat_id!r}: issue two tokens')
        if not 0 < seconds < math.inf:
            raise InvalidInput(f"seconds={seconds!r}: pass for how many seconds the token is valid")
        expires = math.ceil(self._clock() + seconds)
        of_owner = None if owner is None else checked_id("owner", owner)
        grant = _Grant(tenant=of_tenant, chat=chat_id, actions=sorted(actions), expires=expires, owner=of_owner)
        # Without an owner it is what older versions can read.
        signed_text = f"{_VERSION}.{_encode_base64(grant.model_dump_json(exclude_none=True).encode())}"
        return f"{signed_text}.{_encode_base64(_sign(self._secrets[0], signed_text))}"

    def __call__(self, request: Request, tenant: str, chat_id: str, action: Action) -> Verdict:
        """Return whether and until when the request's token grants `action`.

        Raises `AccessDenied` if the request has no valid token.
        """
        grant = self._verify(_token_of(request))
        is_granted = grant.tenant == tenant and grant.chat in {chat_id, ANY_CHAT} and action in grant.actions
        if not is_granted:
            return False
        # Whoever signed "list" for nobody in particular means the tenant's.
        return GrantedUntil(grant.expires, grant.owner, lists_all=action == "list" and grant.owner is None)

    def _verify(self, token: str) -> _Grant:
        signed_text, _, signature = token.rpartition(".")
        version, _, payload = signed_text.partition(".")
        try:
            # The signature comes first: nothing of a forged payload is parsed.
            given = _decode_base64(signature)
            is_authentic = [hmac.compare_digest(given, _sign(secret, signed_text)) for secret in self._secrets]
            if not any(is_authentic) or version != _VERSION:
                raise AccessDenied("the token is invalid")
            grant = _Grant.model_validate_json(_decode_base64(payload))
        except (ValueError, ValidationError):
            raise AccessDenied("the token is invalid") from None
        if grant.expires <= self._clock():
            raise AccessDenied("the token has expired")
        return grant


def _sign(secret: bytes, signed_text: str) -> bytes:
    return hmac.digest(secret, signed_text.encode(), hashlib.sha256)


def _token_of(request: Request) -> str:
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    token = credentials.strip() if scheme.lower() == "bearer" else request.query_params.get("token", "")
    if not token:
        raise AccessDenied("a token is required: Authorization: Bearer …")
    return token


def _encode_base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _decode_base64(text: str) -> bytes:
    data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    # Python's decoder skips characters outside the alphabet, so many texts would decode to one token.
    if _encode_base64(data) != text:
        raise ValueError("not canonical")
    return data
