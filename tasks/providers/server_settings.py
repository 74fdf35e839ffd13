"""Checks the settings that name a model's server: its URL and its key."""

from __future__ import annotations

import re

import httpx2

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings, variable_of

NO_KEY = "none"
"""What is sent as the key to a server that wants none: the SDKs require one."""
_KEY = re.compile(r"[!-~]+")
_CONNECT_SECONDS = 10.0


def check_server(provider: str, whose: str, url_setting: str, key_setting: str, settings: Settings) -> tuple[str, str]:
    """Return the URL and the key of a server, "" where there is none. Raises `SettingsError`.

    `whose` is the service that is meant by a key without a URL.
    """
    url = getattr(settings.provider, url_setting) or ""
    secret = getattr(settings.provider, key_setting)
    key = secret.get_secret_value() if secret else ""
    if not url and not key:
        raise SettingsError(
            f"the provider {provider} needs {variable_of(url_setting)} (any compatible server), "
            f"{variable_of(key_setting)} ({whose} own), or both"
        )
    if url and not _is_url(url):
        raise SettingsError(f"{variable_of(url_setting)} must be a URL that starts with http:// or https://")
    # Such a key could not be sent as a header: every request would fail, with the key in the error's text.
    if key and not _KEY.fullmatch(key):
        raise SettingsError(f"{variable_of(key_setting)} has a space, a line break or a character that no API key has")
    return url, key


def sdk_timeout(settings: Settings) -> httpx2.Timeout:
    """Return the time-outs of an SDK's client.

    A worker's own clocks (tasks/deadlines.py) run out long before these; they are for a caller without any.
    """
    silence = 2 * max(settings.worker.first_token_timeout, settings.worker.idle_timeout)
    return httpx2.Timeout(silence, connect=min(silence, _CONNECT_SECONDS))


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host)
