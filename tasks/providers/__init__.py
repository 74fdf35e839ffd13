"""Loads the provider, or the providers, that the settings name."""

from __future__ import annotations

from importlib.metadata import entry_points

from chunkspool.errors import SettingsError
from chunkspool.provider import ENTRY_POINTS, ModelRequest, Provider
from chunkspool.settings import Settings, variable_of
from chunkspool.tasks.providers.model_router import ModelRouter

BUILT_IN = ("openai_api", "anthropic_api", "litellm_api", "scripted")


def load_provider(settings: Settings) -> Provider:
    """Return the provider that the settings name, not yet connected. Raises `SettingsError`.

    If they name several, it passes each request on to one of them.
    """
    names = [name.strip() for name in settings.provider.provider.split(",")]
    if len(set(names)) < len(names):
        raise SettingsError(f"{variable_of('provider')}={settings.provider.provider!r} names a provider twice")
    providers = {name: _load(name, settings) for name in names}
    if len(providers) > 1 or settings.provider.model_providers:
        provider: Provider = ModelRouter(settings, providers)
    else:
        (provider,) = providers.values()
    if settings.worker.recovery == "continue" and not getattr(provider, "can_continue", False):
        raise SettingsError(
            f"{variable_of('recovery')}='continue': the provider {settings.provider.provider} cannot continue a text; "
            "set it to restart, or give the provider can_continue = True"
        )
    return provider


def called_by(provider: Provider, settings: Settings, request: ModelRequest) -> tuple[str, str | None]:
    """Return the name of the provider that answers a request, and the model's name there, if it is known."""
    model = request.model or settings.provider.model
    if isinstance(provider, ModelRouter):
        return provider.choose(model)
    return settings.provider.provider, model


def _load(name: str, settings: Settings) -> Provider:
    try:
        match name:
            case "openai_api":
                from chunkspool.tasks.providers.openai_api import OpenAIProvider  # noqa: PLC0415 - the SDK is large, and other providers do without it

                return OpenAIProvider(settings)
            case "anthropic_api":
                from chunkspool.tasks.providers.anthropic_api import AnthropicProvider  # noqa: PLC0415 - as above

                return AnthropicProvider(settings)
            case "litellm_api":
                from chunkspool.tasks.providers.litellm_api import LiteLLMProvider  # noqa: PLC0415 - as above

                return LiteLLMProvider(settings)
            case "scripted":
                from chunkspool.tasks.providers.scripted import ScriptedProvider  # noqa: PLC0415 - as above

                return ScriptedProvider()
    except ModuleNotFoundError as missing:
        extra = "litellm" if missing.name == "litellm" else "worker"
        raise SettingsError(f"the provider {name} needs {missing.name}: pip install '.[{extra}]'") from missing
    return _load_entry_point(name, settings)


def _load_entry_point(name: str, settings: Settings) -> Provider:
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    setting = f"{variable_of('provider')}={name!r}"
    if name not in found:
        known = ", ".join((*BUILT_IN, *sorted(found)))
        raise SettingsError(f"{setting}: no such provider; available: {known}")
    try:
        provider = found[name].load()(settings)
    except SettingsError:
        raise
    except Exception as error:
        # An unknown package may raise anything; what the user can change is this setting.
        raise SettingsError(f"{setting} cannot be loaded: {error!r}") from error
    if not isinstance(provider, Provider):
        raise SettingsError(
            f"{setting} gives an object of type {type(provider).__name__}, which lacks `stream` or `aclose`"
        )
    return provider
