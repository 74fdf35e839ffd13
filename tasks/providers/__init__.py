"""Finds the provider that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from chunkspool.errors import SettingsError
from chunkspool.provider import ENTRY_POINTS, Provider
from chunkspool.settings import Settings, variable_of

BUILT_IN = ("openai_api", "scripted")


def load_provider(settings: Settings) -> Provider:
    """Return the provider that `settings.provider` names; it connects nothing yet. Raises `SettingsError`."""
    name = settings.provider
    if name == "openai_api":
        from tasks.providers.openai_api import OpenAIProvider  # noqa: PLC0415 - the SDK is large; only its users load it

        return OpenAIProvider(settings)
    if name == "scripted":
        from tasks.providers.scripted import ScriptedProvider  # noqa: PLC0415 - as above

        return ScriptedProvider()
    return _own(name)(settings)


def _own(name: str) -> Callable[[Settings], Provider]:
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name not in found:
        known = ", ".join((*BUILT_IN, *sorted(found)))
        raise SettingsError(f"{variable_of('provider')}={name!r}: no such provider; there are {known}")
    try:
        make: Callable[[Settings], Provider] = found[name].load()
    except Exception as error:
        # Whatever an unknown package raises while it is imported: it is this setting that cannot be used.
        raise SettingsError(f"{variable_of('provider')}={name!r} cannot be loaded: {error!r}") from error
    return make
