"""Checks the settings that name a model's server: its URL and its key."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

import httpx2

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings, variable_of

NO_KEY = "none"
"""What is sent as the key to a server that wants none: the SDKs require one."""
_KEY = re.compile(r"[!-~]+")
_CONNECT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ModelServer:
    """Where a model's server is, and who we are there; "" and None where the settings do not say."""

    url: str
    """Without credentials: the HTTP client's log shows the URL of every request."""
    key: str = field(repr=False)
    auth: httpx2.BasicAuth | None = field(repr=False)
    """The credentials of the URL, which a proxy in front of the server may want instead of the key."""


def check_server(provider: str, whose: str, url_setting: str, key_setting: str, settings: Settings) -> ModelServer:
    """Return the server that the settings name. Raises `SettingsError`.

    `whose` is the service that is meant by a key without a URL.
    """
    text = getattr(settings.provider, url_setting) or ""
    secret = getattr(settings.provider, key_setting)
    key = secret.get_secret_value() if secret else ""
    if not text and not key:
        raise SettingsError(
            f"the provider {provider} needs {variable_of(url_setting)} (any compatible server), "
            f"{variable_of(key_setting)} ({whose} own), or both"
        )
    # Such a key could not be sent as a header: every request would fail, with the key in the error's text.
    if key and not _KEY.fullmatch(key):
        raise SettingsError(f"{variable_of(key_setting)} has a space, a line break or a character that no API key has")
    if not text:
        return ModelServer("", key, None)
    url = _parse_url(text)
    if url is None:
        raise SettingsError(
            f"{variable_of(url_setting)} must be a URL that starts with http:// or https://, without ? and #; "
            "write a / or @ of a password as %2F or %40"
        )
    return ModelServer(str(url.copy_with(userinfo=b"")), key, _auth_of(url))


def sdk_timeout(settings: Settings) -> httpx2.Timeout:
    """Return the time-outs of an SDK's client.

    A worker's own clocks (tasks/deadlines.py) run out long before these; they are for a caller without any.
    """
    silence = 2 * max(settings.worker.first_token_timeout, settings.worker.idle_timeout)
    return httpx2.Timeout(silence, connect=min(silence, _CONNECT_SECONDS))


def _parse_url(text: str) -> httpx2.URL | None:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return None
    # An @ in the path is what is left of a password with a / in it. What follows a ? would get lost.
    fine = url.scheme in {"http", "https"} and url.host and not url.query and not url.fragment and "@" not in url.path
    return url if fine else None


def _auth_of(url: httpx2.URL) -> httpx2.BasicAuth | None:
    if not url.userinfo:
        return None
    user, _, password = url.userinfo.decode("ascii").partition(":")
    return httpx2.BasicAuth(unquote(user), unquote(password))
