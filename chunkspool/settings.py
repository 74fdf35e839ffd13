"""All settings, frozen, read from the environment once; a wrong value is a clear message."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from chunkspool.errors import InvalidId, SettingsError, shown, without_password
from chunkspool.store.keys import checked_id


def _redis_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"redis", "rediss", "unix"} and parts.port != 0
    except ValueError:  # its text may have a piece of the password
        good = False
    if not good:
        raise ValueError("write redis://[:password@]host:port/db, a / or @ of the password as %2F or %40")
    return url


RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Bytes = Annotated[int, Field(ge=1024, le=512 * 1024 * 1024)]

_SECRETS = ("key", "url", "secret")
_OTHER_NAMES = {"openai_base_url": "OPENAI_BASE_URL", "openai_api_key": "OPENAI_API_KEY"}


class Settings(BaseModel):
    """Every setting with its default. The variable of a field is `CHUNKSPOOL_<FIELD>`, or the one its text names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    redis_url: RedisUrl = Field("redis://127.0.0.1:6379/0", description="where the logs live")
    broker_url: str | None = Field(None, description="Celery's broker; without it, the redis_url")
    tenant: str = Field("default", description="namespace of every key")
    queue: str = Field("chunkspool", min_length=1, description="name of the Celery queue")
    task: str = Field("chunkspool.generate", min_length=1, description="name of the Celery task that runs a generation")

    ttl: Seconds = Field(86_400.0, ge=1, description="seconds that a chat is kept after its last event")
    lease: Seconds = Field(5.0, description="seconds that an attempt counts as alive after its last write")
    redelivery: Seconds = Field(8.0, description="seconds after which a dead worker's message is another's (Redis)")
    max_attempts: int = Field(3, ge=1, le=1000, description="attempts before a generation fails for good")
    recovery: Literal["restart", "continue"] = Field("restart", description="how a further attempt goes on")
    drain_grace: float = Field(
        25.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="seconds that a worker's generations have to finish when it is asked to end",
    )
    deadline: Seconds = Field(600.0, description="seconds that one attempt may take")
    first_token_timeout: Seconds = Field(120.0, description="seconds that a model may take to say its first word")
    idle_timeout: Seconds = Field(60.0, description="seconds that a model may be silent in mid-answer")

    lost_after: Seconds = Field(300.0, description="seconds without a sign of life after which it is lost")
    sweep_interval: Seconds = Field(10.0, description="seconds between two looks for what is lost")

    flush_interval: Seconds = Field(0.02, description="seconds between two writes of one generation")
    write_timeout: Seconds = Field(30.0, description="seconds that a write may be retried while Redis is away")
    read_timeout: Seconds = Field(30.0, description="seconds that a reader waits for a Redis that is away")
    recheck: Seconds = Field(5.0, description="seconds between two looks at a chat that is quiet, for lost frames")
    publish_timeout: Seconds = Field(5.0, description="seconds that the broker has to take a message")
    buffer_bytes: Bytes = Field(4 * 1024 * 1024, description="unwritten bytes that one generation may hold")
    max_request_bytes: Bytes = Field(1024 * 1024, description="size of a prompt or messages, encoded")
    max_event_bytes: Bytes = Field(256 * 1024, description="size of one event, encoded")

    imports: str = Field("", description="further modules with Celery tasks for the worker, separated by commas")
    provider: str = Field("openai_api", description="who runs the model: openai_api, scripted, or an own one")
    model: str | None = Field(None, description="model of a request that names none")
    openai_base_url: str | None = Field(None, description="any OpenAI-compatible server; without it, OpenAI's own")
    openai_api_key: SecretStr | None = Field(None, description="the key for that server, if it wants one")
    provider_retries: int = Field(3, ge=0, le=20, description="retries of a busy provider before its first chunk")

    token_secret: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        None, description="signs the tokens of the web routes; at least 16 characters"
    )
    cors_origins: str = Field("", description="origins whose pages may use the web routes, separated by commas")
    max_body_bytes: Bytes = Field(2 * 1024 * 1024, description="size of a request's body to the web routes")
    heartbeat: Seconds = Field(15.0, description="seconds of quiet after which an event stream sends a comment")
    answer_timeout: Seconds = Field(10.0, description="seconds after which a web route answers 503")
    flower_url: str | None = Field(None, description="where the page's link to Flower leads")

    @property
    def broker(self) -> str:
        """The broker's URL, whichever setting gives it."""
        return self.broker_url or self.redis_url

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings from `environ` (default: the process's); empty variables count as unset.

        Raises `SettingsError`, which names the variable and what it takes.
        """
        found = os.environ if environ is None else environ
        names = {field: variable_of(field) for field in cls.model_fields}
        given = {field: found[name] for field, name in names.items() if found.get(name)}
        return cls.checked(given)

    @classmethod
    def checked(cls, values: Mapping[str, object]) -> Self:
        """Make settings of `values` (field → value). Raises `SettingsError`."""
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError("; ".join(_explain(e["loc"], e["msg"], values) for e in error.errors())) from None
        try:
            checked_id("tenant", settings.tenant)
        except InvalidId as error:
            raise SettingsError(f"{variable_of('tenant')}: {error}") from None
        return settings

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show no passwords: settings end up in logs."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value


def variable_of(field: str) -> str:
    """Return the name of the environment variable that sets `field`."""
    return _OTHER_NAMES.get(field, f"CHUNKSPOOL_{field.upper()}")


def _explain(loc: tuple[int | str, ...], message: str, values: Mapping[str, object]) -> str:
    field = str(loc[0])
    known = Settings.model_fields.get(field)
    if known is None:
        return f"{field} is not a setting"
    given = "***" if any(word in field for word in _SECRETS) else shown(values.get(field))
    return f"{variable_of(field)}={given}: {message.removeprefix('Value error, ')} ({known.description})"
