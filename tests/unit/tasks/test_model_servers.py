"""The URL of a model's server: credentials are taken out of it; what cannot work is refused without showing it."""

from __future__ import annotations

import pytest

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings
from chunkspool.tasks.providers.server_settings import ModelServer, check_server

SECRET = "hunter2"


def server_at(url: str) -> ModelServer:
    """Return the server of these settings."""
    settings = Settings.checked({"openai_base_url": url, "openai_api_key": "sk"})
    return check_server("openai_api", "OpenAI's", "openai_base_url", "openai_api_key", settings)


@pytest.mark.parametrize("url", [f"https://me:{SECRET}@host:1/v1", f"https://{SECRET}@host:1/v1"])
def test_credentials_are_no_part_of_the_url(url: str) -> None:
    """They are kept beside it, and no repr shows them."""
    server = server_at(url)
    assert server.url == "https://host:1/v1"
    assert server.auth is not None
    assert SECRET not in repr(server)


def test_a_url_without_credentials() -> None:
    """It stays as it is."""
    assert server_at("https://host/v1") == ModelServer("https://host/v1", "sk", None)


@pytest.mark.parametrize(
    "url", [f"https://host/v1?key={SECRET}", f"https://host/#{SECRET}", f"https://me:a/{SECRET}@host/v1", "ftp://host"]
)
def test_what_cannot_work_is_refused(url: str) -> None:
    """A query would get lost, and a / in a password must be escaped; the message shows neither."""
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL must be a URL") as refused:
        server_at(url)
    assert SECRET not in str(refused.value)
