"""LiteLLM makes no call to an address with a password in it; the worker says so at its start."""

from __future__ import annotations

import pytest

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings
from chunkspool.tasks.providers import load_provider
from chunkspool.tasks.providers.litellm_addresses import check_addresses

ADDRESSES = [
    "https://me:hunter2@host/v1",
    "https://me:hun/ter2@host/v1",
    "https://hunter2@host",
    "https://me:hunter2@[::1]:8000",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "OLLAMA_API_BASE", "MISTRAL_AZURE_API_BASE"])
def test_a_password_in_an_address_is_refused(name: str, address: str) -> None:
    """The error names the variable and what to do, and not the password."""
    with pytest.raises(
        SettingsError, match=f"^{name} has .*write the URL without them.*CHUNKSPOOL_PROVIDER=openai_api"
    ) as refused:
        check_addresses({name: address}, ["litellm_api"])
    assert "hunter2" not in str(refused.value)
    assert "ter2" not in str(refused.value)
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPENAI_BASE_URL", "https://host:8000/v1"),
        ("VERTEX_API_BASE", "https://host/models/claude@20250101"),
        ("OPENAI_BASE_URL", ""),
        ("HTTPS_PROXY", "http://me:hunter2@proxy"),
        ("MY_BASE_URL", "https://me:hunter2@host/v1"),
    ],
)
def test_other_variables_are_left_alone(name: str, value: str) -> None:
    """Addresses without a password, and variables that LiteLLM does not read as an address."""
    check_addresses({name: value}, ["litellm_api"])


def test_a_variable_of_another_provider_is_left_to_it() -> None:
    """It sends the password; `litellm_api` beside it is for other services."""
    check_addresses({"OPENAI_BASE_URL": ADDRESSES[0]}, ["openai_api", "litellm_api"])
    with pytest.raises(SettingsError):
        check_addresses({"OPENAI_BASE_URL": ADDRESSES[0]}, ["anthropic_api", "litellm_api"])


@pytest.mark.parametrize("providers", ["litellm_api", "scripted, litellm_api"])
def test_the_worker_does_not_start(providers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With such an address."""
    monkeypatch.setenv("GROQ_API_BASE", ADDRESSES[0])
    with pytest.raises(SettingsError, match="GROQ_API_BASE"):
        load_provider(Settings.checked({"provider": providers}))
