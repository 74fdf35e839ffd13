"""Loads the provider that the settings name."""

from __future__ import annotations

from importlib.metadata import entry_points

from chunkspool.errors import SettingsError
from chunkspool.provider import ENTRY_POINTS, Provider
from chunkspool.settings import Settings, variable_of

BUILT_IN = ("openai_api", "scripted")


def load_provider(settings: Settings) -> Provider:
    """Return the provider that the settings name, not yet connected. Raises `SettingsError`."""
    provider = _load(settings)
    if settings.worker.recovery == "continue" and not getattr(provider, "can_continue", False):
        raise SettingsError(
            f"{variable_of('recovery')}='continue': the provider {settings.provider.provider} cannot continue a text; "
            "set it to restart, or give the provider can_continue = True"
        )
    return provider


def _load(settings: Settings) -> Provider:
    name = settings.provider.provider
    if name == "openai_api":
        try:
            from tasks.providers.openai_api import OpenAIProvider  # noqa: PLC0415 - the SDK is large, and other providers do without it
        except ModuleNotFoundError as missing:
            raise SettingsError(f"the provider openai_api needs {missing.name}: pip install '.[worker]'") from missing
        return OpenAIProvider(settings)
    if name == "scripted":
        from tasks.providers.scripted import ScriptedProvider  # noqa: PLC0415 - as above

        return ScriptedProvider()
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
