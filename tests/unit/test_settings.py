"""Settings are read from the environment once and frozen. Errors name the variable; no secret is ever shown."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from chunkspool.errors import SettingsError, without_password
from chunkspool.policy import Policy
from chunkspool.settings import GROUP_OF, Settings, variable_of

SECRET = "hunter2"
WRONG = {
    "redis_url": ["http://host", "host:6379", f"redis://:{SECRET}@host:port", f"redis://:{SECRET}/x@host:6379/0"],
    "broker_url": [
        "http://host",
        "host:6379",
        "sentinel://host",
        f"amqp://:{SECRET}/x@host",
        "redis://host?protocol=3",
    ],
    "tenant": ["a b", "a/b", "a:b", "ü"],
    "ttl": ["0", "0.5", "-1", "nan", "inf", "a day", "1e99"],
    "lease": ["0", "-1", "soon"],
    "redelivery": ["0", "x"],
    "max_attempts": ["0", "1001", "2.5", "x"],
    "recovery": ["retry"],
    "log": ["xml", "JSON"],
    "traces": ["yes", "1"],
    "drain_grace": ["-1", "86401", "nan", "x"],
    "deadline": ["0", "x"],
    "first_token_timeout": ["0", "x"],
    "idle_timeout": ["0", "x"],
    "keepalive_timeout": ["0", "x"],
    "lost_after": ["0", "x"],
    "sweep_interval": ["0", "x"],
    "recheck": ["0", "x"],
    "flush_interval": ["0", "x"],
    "write_timeout": ["0", "x"],
    "read_timeout": ["0", "x"],
    "publish_timeout": ["0", "x"],
    "buffer_bytes": ["0", "1023", "1e3", "x"],
    "max_request_bytes": ["0", "536870913", "x"],
    "max_event_bytes": ["0", "x"],
    "keep_messages": ["2", "x"],
    "history": ["2", "x"],
    "history_messages": ["0", "x"],
    "history_characters": ["0", "x"],
    "outcome_text_bytes": ["-1", "102401", "x"],
    "outcome_bytes": ["1048575", "x"],
    "max_active": ["0", "1001", "2.5", "x"],
    **{
        f"max_{name}": ["-1", "1000000001", "2.5", "x"]
        for name in (
            "queued",
            "running",
            "per_minute",
            "owner_queued",
            "owner_running",
            "owner_per_minute",
            "chat_per_minute",
            "streams",
            "owner_streams",
            "chat_streams",
        )
    },
    **{f"max_{name}": ["-1", str(2**50 + 1), "2.5", "x"] for name in ("bytes", "owner_bytes", "chat_bytes")},
    "max_pinned": ["-1", "2.5", "x"],
    **{f"keep_{name}": ["0", "2.5", "x"] for name in ("events", "bytes")},
    "provider_retries": ["-1", "21", "x"],
    "token_secret": [SECRET, "x" * 31, f"{SECRET * 5},{SECRET}", f"{SECRET * 5},"],
    "reauthorize": ["0", "x"],
    "stall_timeout": ["0", "x"],
    "stream_deadline": ["0", "x"],
    "request_timeout": ["0", "x"],
    "max_connections": ["0", "2.5", "x"],
    "cors_credentials": ["2", "perhaps"],
    "max_body_bytes": ["0", "x"],
    "web_max_tokens": ["0", "10000001", "x"],
    "heartbeat": ["0", "x"],
    "answer_timeout": ["0", "x"],
    "metrics_token": [SECRET, "x" * 31, f"{SECRET * 5} {SECRET}", f"{SECRET * 5}ü"],
    "metrics_port": ["0", "65536", "x"],
}
TEXTS = {
    "queue",
    "task",
    "imports",
    "provider",
    "model_providers",
    "model",
    "anthropic_base_url",
    "anthropic_api_key",
    "openai_base_url",
    "openai_api_key",
    "cors_origins",
    "web_models",
    "allowed_hosts",
    "flower_url",
    "metrics_host",
}


def test_every_setting_is_tried() -> None:
    """Add a new setting to WRONG, or to TEXTS if it accepts any text."""
    assert set(WRONG) | TEXTS == set(GROUP_OF)


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_names_its_variable(field: str) -> None:
    """The message has the variable, the accepted values and, unless it may hold a secret, the value."""
    for value in WRONG[field]:
        with pytest.raises(SettingsError) as refused:
            Settings.from_env({variable_of(field): value})
        message = str(refused.value)
        assert message.startswith(variable_of(field))
        assert SECRET not in message
        assert ("***" if field.endswith(("_url", "_secret", "metrics_token")) else repr(value)) in message


def test_all_errors_are_reported_at_once() -> None:
    """Nobody wants to start a worker three times to find three mistakes."""
    with pytest.raises(SettingsError, match="CHUNKSPOOL_TTL=.*CHUNKSPOOL_LEASE=.*") as refused:
        Settings.from_env({"CHUNKSPOOL_TTL": "x", "CHUNKSPOOL_LEASE": "y", "CHUNKSPOOL_MODEL": "m"})
    assert "CHUNKSPOOL_MODEL" not in str(refused.value)


def test_values_come_from_the_environment() -> None:
    """Each field has a variable; an empty one counts as unset."""
    environ = {
        "CHUNKSPOOL_REDIS_URL": "unix:///run/redis.sock",
        "CHUNKSPOOL_TTL": "60",
        "CHUNKSPOOL_TENANT": "acme",
        "CHUNKSPOOL_LEASE": "",
        "OPENAI_API_KEY": SECRET,
        "TTL": "1",
    }
    settings = Settings.from_env(environ)
    assert settings == Settings.checked(
        {"redis_url": "unix:///run/redis.sock", "ttl": 60, "tenant": "acme", "openai_api_key": SECRET}
    )
    assert Settings.from_env({}) == Settings()


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read on the call, not on import."""
    monkeypatch.setenv("CHUNKSPOOL_QUEUE", "mine")
    assert Settings.from_env().worker.queue == "mine"


def test_the_broker_defaults_to_redis() -> None:
    """One URL is enough."""
    assert Settings.checked({"redis_url": "redis://one"}).broker == "redis://one"
    assert Settings.checked({"redis_url": "redis://one", "broker_url": "amqp://two"}).broker == "amqp://two"


def test_settings_are_frozen() -> None:
    """No part of a process can change them for another."""
    with pytest.raises(ValidationError, match="frozen"):
        Settings().log.ttl = 5  # type: ignore[misc]


def test_an_unknown_setting_is_rejected() -> None:
    """A misspelt keyword is an error, not a default."""
    with pytest.raises(SettingsError, match="tll is not a setting"):
        Settings.checked({"tll": 60})


def test_no_secret_is_shown() -> None:
    """Settings end up in logs, so neither str, repr nor a list of settings shows one."""
    settings = Settings.checked(
        {
            "redis_url": f"redis://user:{SECRET}@host/0",
            "broker_url": f"amqp://user:{SECRET}@host//",
            "openai_api_key": SECRET,
        }
    )
    for shown in (str(settings), repr(settings), str([settings]), f"{settings}"):
        assert SECRET not in shown
        assert "redis://user:***@host/0" in shown
    assert settings.log.redis_url == f"redis://user:{SECRET}@host/0"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:***@host:6379/0"),
        ("redis://user:hunter2@host", "redis://user:***@host"),
        ("redis://:hunter2/@host", "redis://:***@host"),
        ("redis://:hunter2@more@host", "redis://:***@host"),
        ("amqp://a:hunter2@one;amqp://b:hunter2@two", "amqp://a:***@two"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("cannot reach redis://u:hunter2@host:1 (away)", "cannot reach redis://u:***@host:1 (away)"),
    ],
)
def test_passwords_are_removed_from_urls(url: str, shown: str) -> None:
    """Also unescaped ones, several in one URL, and URLs inside a longer text."""
    assert without_password(url) == shown


def test_a_tenant_without_limits_of_its_own_has_those_of_the_settings() -> None:
    """The defaults are the policy's own; a setting changes one for every tenant."""
    assert Settings().policy == Policy()
    changed = Settings.checked({"max_running": "5", "max_chat_bytes": "0", "max_request_bytes": "2000"}).policy
    assert changed == Policy(running=5, chat_bytes=0, request_bytes=2000)
