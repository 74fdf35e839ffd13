"""All settings, frozen, read from the environment once; a wrong value is a clear message."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from chunkspool.errors import InvalidId, SettingsError, shown, without_password
from chunkspool.ids import checked_id
from chunkspool.policy import Policy
from chunkspool.urls.broker_url import CeleryBroker
from chunkspool.urls.redis_url import parse_redis_url


def _check_log_url(url: str) -> str:
    parse_redis_url(url)
    return url


def _check_broker_url(url: str) -> str:
    CeleryBroker.from_url(url)
    return url


MIN_SECRET_BYTES = 32


def split_secrets(text: str) -> tuple[str, ...]:
    """Return the token secrets in `text`, which are separated by commas. Raises `ValueError` for one that is short."""
    secrets = tuple(secret.strip() for secret in text.split(","))
    if any(len(secret.encode()) < MIN_SECRET_BYTES for secret in secrets):
        raise ValueError(
            f"each token secret (commas separate them) needs at least {MIN_SECRET_BYTES} bytes: `openssl rand -hex 32`"
        )
    return secrets


def _check_secrets(text: SecretStr) -> SecretStr:
    split_secrets(text.get_secret_value())
    return text


def _check_metrics_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if len(text) < MIN_SECRET_BYTES or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"a token has at least {MIN_SECRET_BYTES} letters, digits and signs: `openssl rand -hex 32`")
    return token


LogUrl = Annotated[str, AfterValidator(_check_log_url)]
BrokerUrl = Annotated[str, AfterValidator(_check_broker_url)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
TotalBytes = Annotated[int, Field(ge=0, le=1024**5)]
Bytes = Annotated[int, Field(ge=1024, le=512 * 1024 * 1024)]

_SECRETS = ("key", "url", "secret", "metrics_token")
_OTHER_NAMES = {
    name: name.upper() for name in ("openai_base_url", "openai_api_key", "anthropic_base_url", "anthropic_api_key")
}


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Show no passwords: settings end up in logs."""
        for name, value in super().__repr_args__():
            yield name, without_password(value) if isinstance(value, str) else value


class LogSettings(_Group):
    """The logs in Redis: where they are, how long they are kept, how they are written and read."""

    redis_url: LogUrl = Field(default="redis://127.0.0.1:6379/0", description="URL of the Redis that holds the logs")
    tenant: str = Field(default="default", description="namespace of every key")
    ttl: Seconds = Field(default=86_400.0, ge=1, description="seconds that a chat is kept after its last event")
    lease: Seconds = Field(
        default=5.0, ge=0.05, description="seconds that an attempt counts as alive after its last write"
    )
    flush_interval: Seconds = Field(
        default=0.1, description="seconds that one generation is gathered at most, while the writer is busy"
    )
    write_timeout: Seconds = Field(
        default=30.0, description="seconds that a write is retried while Redis is unreachable"
    )
    read_timeout: Seconds = Field(default=30.0, description="seconds that a reader waits while Redis is unreachable")
    recheck: Seconds = Field(
        default=5.0, ge=0.05, description="seconds between two checks of a quiet chat for lost frames"
    )
    buffer_bytes: Bytes = Field(default=4 * 1024 * 1024, description="unwritten bytes that one generation may hold")
    max_request_bytes: Bytes = Field(default=1024 * 1024, description="largest request (prompt or messages), encoded")
    max_event_bytes: Bytes = Field(default=256 * 1024, description="largest event, encoded")
    keep_events: Count | None = Field(
        default=None,
        ge=1,
        description="events of a chat's log that are kept: of more, the oldest answers go; all if unset",
    )
    keep_bytes: TotalBytes | None = Field(
        default=None,
        ge=1,
        description="bytes of a chat's log that are kept: of more, the oldest answers go; all if unset",
    )
    outcome_text_bytes: Annotated[int, Field(ge=0, le=100 * 1024)] = Field(
        default=64 * 1024, description="longest answer that stands in its outcome, in bytes; a longer one is in the log"
    )
    outcome_bytes: Annotated[int, Field(ge=1024**2, le=1024**5)] = Field(
        default=256 * 1024**2,
        description="bytes of a tenant's outcomes in Redis; beyond, the slowest group is set aside",
    )
    keep_messages: bool = Field(default=True, description="whether the log has the questions, too")
    history: bool = Field(
        default=False, description="whether the model gets the conversation as it stands in the log before the messages"
    )
    history_messages: int = Field(
        default=200,
        ge=1,
        le=100_000,
        description="messages of the conversation that the model gets at most",
    )
    history_characters: int = Field(
        default=200_000, ge=1, le=100_000_000, description="characters that these messages have at most"
    )


class WorkerSettings(_Group):
    """How generations get to workers, and how a worker runs them."""

    broker_url: BrokerUrl | None = Field(default=None, description="Celery's broker; the redis_url unless set")
    queue: str = Field(default="chunkspool", min_length=1, max_length=200, description="name of the Celery queue")
    task: str = Field(
        default="chunkspool.generate",
        min_length=1,
        max_length=200,
        description="name of the Celery task that runs a generation",
    )
    publish_timeout: Seconds = Field(default=5.0, description="seconds that the broker has to take a message")
    redelivery: Seconds = Field(
        default=8.0, ge=0.1, description="seconds until a dead worker's message is redelivered (Redis)"
    )
    max_attempts: int = Field(default=3, ge=1, le=1000, description="attempts before a generation fails for good")
    recovery: Literal["restart", "continue"] = Field(
        default="restart", description="what a further attempt does with the text"
    )
    drain_grace: float = Field(
        default=25.0,
        ge=0,
        le=86_400,
        allow_inf_nan=False,
        description="seconds that a worker's generations may run on after it was asked to exit",
    )
    deadline: Seconds = Field(default=600.0, description="seconds that one attempt may take")
    first_token_timeout: Seconds = Field(
        default=120.0, description="seconds that a model's server may be silent before the model's first word"
    )
    idle_timeout: Seconds = Field(default=60.0, description="seconds that it may be silent in the middle of an answer")
    keepalive_timeout: Seconds = Field(
        default=300.0, description="seconds that it may send keep-alives and no part of an answer"
    )
    lost_after: Seconds = Field(
        default=300.0, description="seconds without a sign of life after which a generation is lost"
    )
    sweep_interval: Seconds = Field(default=10.0, description="seconds between two searches for lost generations")
    imports: str = Field(default="", description="more modules with Celery tasks for the worker, separated by commas")


class ProviderSettings(_Group):
    """Who runs the model."""

    provider: str = Field(
        default="openai_api",
        description=(
            "who runs the model: openai_api, anthropic_api, litellm_api, scripted, your own, "
            "or several with commas between"
        ),
    )
    model_providers: str = Field(
        default="", description="which of several providers runs which models: pattern=provider, with commas between"
    )
    model: str | None = Field(default=None, description="model of a request that names none")
    openai_base_url: str | None = Field(
        default=None, description="any OpenAI-compatible server; OpenAI's own unless set"
    )
    openai_api_key: SecretStr | None = Field(default=None, description="the key for that server, if it wants one")
    anthropic_base_url: str | None = Field(
        default=None, description="a server that speaks the Messages API; Anthropic's own unless set"
    )
    anthropic_api_key: SecretStr | None = Field(default=None, description="the key for that server")
    provider_retries: int = Field(
        default=3, ge=0, le=20, description="retries of a busy provider before its first chunk"
    )


class LimitSettings(_Group):
    """The limits of every tenant that has none of its own (`chunkspool tenant set`). 0 allows nothing."""

    max_queued: Count = Field(default=1000, description="generations of a tenant that may wait for a worker")
    max_running: Count = Field(default=200, description="generations of a tenant that may run")
    max_per_minute: Count = Field(default=6000, description="requests of a tenant in a minute")
    max_owner_queued: Count = Field(default=1000, description="generations of one owner that may wait for a worker")
    max_owner_running: Count = Field(default=200, description="generations of one owner that may run")
    max_owner_per_minute: Count = Field(default=6000, description="requests of one owner in a minute")
    max_active: int = Field(default=32, ge=1, le=1000, description="generations of one chat that may wait or run")
    max_chat_per_minute: Count = Field(default=6000, description="requests in one chat in a minute")
    max_bytes: TotalBytes = Field(
        default=64 * 1024**3, description="bytes of the logs of a tenant in Redis; a fuller one takes no request"
    )
    max_owner_bytes: TotalBytes = Field(
        default=16 * 1024**3, description="bytes of the logs of one owner's chats in Redis, together"
    )
    max_chat_bytes: TotalBytes = Field(
        default=256 * 1024**2, description="bytes of one chat's log in Redis; a fuller one takes no request"
    )
    max_pinned: Count = Field(default=0, description="chats of a tenant that may be pinned, so that they never expire")
    max_streams: Count = Field(default=10_000, description="event streams of a tenant that may be open")
    max_owner_streams: Count = Field(default=1000, description="event streams of one owner that may be open")
    max_chat_streams: Count = Field(default=5000, description="event streams of one chat that may be open")


class WebSettings(_Group):
    """The web routes and the page."""

    token_secret: Annotated[SecretStr, AfterValidator(_check_secrets)] | None = Field(
        default=None,
        description="signs the tokens of the web routes; of several, with commas between, the first signs",
    )
    reauthorize: Seconds = Field(
        default=60.0, ge=0.05, description="seconds after which the hook is asked again for an open event stream"
    )
    cors_origins: str = Field(default="", description="origins whose pages may use the web routes, separated by commas")
    cors_credentials: bool = Field(default=False, description="whether those pages may send cookies, too")
    allowed_hosts: str = Field(
        default="", description="further host names that `serve --open` answers to, separated by commas"
    )
    max_connections: int = Field(
        default=10_000, ge=1, le=1_000_000, description="connections that `chunkspool serve` has at the most"
    )
    max_body_bytes: Bytes = Field(default=2 * 1024 * 1024, description="largest body of a request to the web routes")
    web_models: str = Field(
        default="",
        description="models that web users may choose, separated by commas; none but the default one unless set",
    )
    web_max_tokens: int = Field(
        default=4096, ge=1, le=10_000_000, description="largest max_tokens that a web user may ask for"
    )
    heartbeat: Seconds = Field(
        default=15.0, ge=0.05, description="seconds of silence after which an event stream sends a comment"
    )
    stall_timeout: Seconds = Field(
        default=60.0, ge=0.05, description="seconds after which a client that takes nothing of its stream is dropped"
    )
    stream_deadline: Seconds = Field(
        default=3600.0, ge=0.05, description="seconds after which an event stream ends; its client resumes"
    )
    request_timeout: Seconds = Field(
        default=30.0, ge=0.05, description="seconds that a client has to send the body of its request"
    )
    answer_timeout: Seconds = Field(default=10.0, description="seconds after which a web route answers 503")
    flower_url: str | None = Field(default=None, description="where the page's link to Flower leads")


class MetricsSettings(_Group):
    """Metrics for Prometheus."""

    metrics_token: Annotated[SecretStr, AfterValidator(_check_metrics_token)] | None = Field(
        default=None,
        description="what Prometheus must send to be given metrics; without it, the web routes have none",
    )
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="port on which a worker serves its metrics; it has none unless set"
    )
    metrics_host: str = Field(
        default="127.0.0.1", min_length=1, description="address on which a worker serves its metrics"
    )


class TelemetrySettings(_Group):
    """What a process tells of itself: its log and its traces."""

    log: Literal["text", "json"] = Field(default="text", description="the log's lines: text, or json")
    traces: Literal["auto", "on", "off"] = Field(
        default="auto", description="traces by OpenTelemetry; auto: if its own variables say where they go"
    )


class Settings(BaseModel):
    """Every setting with its default, in groups. The variable of a field is `CHUNKSPOOL_<FIELD>`, whatever its group.

    The exceptions are the URLs and keys of OpenAI and Anthropic, whose variables other programs read, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    log: LogSettings = Field(default_factory=LogSettings)
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    provider: ProviderSettings = Field(default_factory=ProviderSettings)
    web: WebSettings = Field(default_factory=WebSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    telemetry: TelemetrySettings = Field(default_factory=TelemetrySettings)

    @property
    def policy(self) -> Policy:
        """The limits of a tenant that has none of its own."""
        values = self.limits.model_dump()
        own = {name: values[f"max_{name}"] for name in Policy.model_fields if f"max_{name}" in values}
        return Policy(
            **own,
            request_bytes=self.log.max_request_bytes,
            keep_events=self.log.keep_events,
            keep_bytes=self.log.keep_bytes,
        )

    @property
    def broker(self) -> str:
        """The broker's URL, whichever setting gives it."""
        return self.worker.broker_url or self.log.redis_url

    def for_tenant(self, tenant: str) -> Self:
        """Return these settings for another tenant. Raises `InvalidId`."""
        log = self.log.model_copy(update={"tenant": checked_id("tenant", tenant)})
        return self.model_copy(update={"log": log})

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings from `environ` (default: the process's); empty variables count as unset.

        Raises `SettingsError`, which names the variable and what it takes.
        """
        found = os.environ if environ is None else environ
        return cls.checked({field: found[name] for field in GROUP_OF if found.get(name := variable_of(field))})

    @staticmethod
    def queue_in_env() -> str:
        """Return the name of the environment's queue of generations, which another wrong value does not hide."""
        return os.environ.get(variable_of("queue")) or WorkerSettings().queue

    @classmethod
    def _validate(cls, groups: dict[str, dict[str, object]]) -> tuple[Self | None, list[ErrorDetails]]:
        try:
            return cls.model_validate(groups), []
        except ValidationError as error:
            return None, error.errors()

    @classmethod
    def checked(cls, values: Mapping[str, object]) -> Self:
        """Make settings of `values` (field → value, without groups). Raises `SettingsError`."""
        groups: dict[str, dict[str, object]] = {group: {} for group in cls.model_fields}
        for field, value in values.items():
            if field not in GROUP_OF:
                raise SettingsError(f"{field} is not a setting")
            groups[GROUP_OF[field]][field] = value
        settings, problems = cls._validate(groups)
        if settings is None:
            # Not raised where pydantic's error is handled: it would be the context, and may hold a URL with a password.
            raise SettingsError("; ".join(_explain(e["loc"], e["msg"], values) for e in problems))
        _check_together(settings)
        try:
            checked_id("tenant", settings.log.tenant)
        except InvalidId as error:
            raise SettingsError(f"{variable_of('tenant')}: {error}") from None
        return settings


_GROUPS: Mapping[str, type[_Group]] = {
    "log": LogSettings,
    "worker": WorkerSettings,
    "provider": ProviderSettings,
    "web": WebSettings,
    "limits": LimitSettings,
    "metrics": MetricsSettings,
    "telemetry": TelemetrySettings,
}
GROUP_OF: Mapping[str, str] = {field: group for group, model in _GROUPS.items() for field in model.model_fields}
"""Each setting's group. No two groups have a field of the same name."""


def variable_of(field: str) -> str:
    """Return the name of the environment variable that sets `field`."""
    return _OTHER_NAMES.get(field, f"CHUNKSPOOL_{field.upper()}")


def description_of(field: str) -> str:
    """Return what `field` is, for people."""
    return _GROUPS[GROUP_OF[field]].model_fields[field].description or ""


def _check_together(settings: Settings) -> None:
    """Raise `SettingsError` for values that contradict each other."""
    interval, lease = settings.log.flush_interval, settings.log.lease
    if interval > lease / 3:
        raise SettingsError(
            f"{variable_of('flush_interval')}={interval:g} is more than a third of {variable_of('lease')}={lease:g}: "
            "an attempt that writes so rarely would seem dead; shorten the one or lengthen the other"
        )


def _explain(loc: tuple[int | str, ...], message: str, values: Mapping[str, object]) -> str:
    field = str(loc[1])
    given = "***" if any(word in field for word in _SECRETS) else shown(values.get(field))
    return f"{variable_of(field)}={given}: {message.removeprefix('Value error, ')} ({description_of(field)})"
