"""Checks the variables from which LiteLLM takes the addresses of its services."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from chunkspool.errors import SettingsError
from chunkspool.settings import variable_of

_SUFFIX = "_API_BASE"
"""LiteLLM has such a variable for nearly every service."""
_OTHERS = frozenset({"OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "ANTHROPIC_AWS_BASE_URL", "COMETAPI_BASE_URL"})
_SHARED = {"OPENAI_BASE_URL": "openai_api", "ANTHROPIC_BASE_URL": "anthropic_api"}
"""Variables that a provider of ours reads, too. It sends the credentials in them."""


def check_addresses(environment: Mapping[str, str], providers: Collection[str]) -> None:
    """Raise `SettingsError` if an address has credentials in it; `providers` are all that the worker has."""
    for name, value in sorted(environment.items()):
        is_address = name.endswith(_SUFFIX) or name in _OTHERS
        if is_address and _SHARED.get(name) not in providers and _has_credentials(value):
            raise SettingsError(
                f"{name} has a user or a password in it, and then LiteLLM's calls fail: write the URL without them. "
                f"{variable_of('provider')}=openai_api and anthropic_api send them, for a proxy that wants them"
            )


def _has_credentials(value: str) -> bool:
    if "@" not in value:
        return False
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        # What looks like a port is the beginning of a password with a / in it.
        return True
    return "@" in parts.netloc
