"""Chooses among several providers by the model's name, so that one worker serves them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from chunkspool.errors import SettingsError
from chunkspool.provider import Delta, ModelRequest, Provider, SignOfLife
from chunkspool.settings import Settings, variable_of


class ModelRouter:
    """Passes each request on to the provider that its model's name stands for.

    First the table `model_providers` decides, then a prefix: `anthropic/x` is the model `x` of `anthropic_api`.
    Everything else goes to the first provider.
    """

    def __init__(self, settings: Settings, providers: Mapping[str, Provider]) -> None:
        """Take the providers by their names, the first one first. Raises `SettingsError` for a wrong table."""
        self._default_model = settings.provider.model
        self._providers = providers
        self._table = _read_table(settings.provider.model_providers, providers)
        self._prefixes = {name.removesuffix("_api"): name for name in providers}
        self.can_continue = all(getattr(provider, "can_continue", False) for provider in providers.values())

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer of the chosen provider. Raises `ProviderError`."""
        provider, model = self.choose(request.model or self._default_model)
        return self._providers[provider].stream(replace(request, model=model))

    async def aclose(self) -> None:
        """Free what the providers hold."""
        await asyncio.gather(*(provider.aclose() for provider in self._providers.values()))

    def choose(self, model: str | None) -> tuple[str, str | None]:
        """Return the name of the provider, and the model's name there."""
        first = next(iter(self._providers))
        if model is None:
            return first, None
        for pattern, provider in self._table:
            if fnmatchcase(model, pattern):
                return provider, model
        prefix, _, rest = model.partition("/")
        chosen = self._prefixes.get(prefix) if rest else None
        return (chosen, rest) if chosen else (first, model)


def _read_table(table: str, providers: Mapping[str, Provider]) -> list[tuple[str, str]]:
    """Return the rows `pattern=provider` of a table. Raises `SettingsError`."""
    rows = []
    for row in filter(None, map(str.strip, table.split(","))):
        pattern, equals, provider = (part.strip() for part in row.rpartition("="))
        if not pattern or not equals or provider not in providers:
            raise SettingsError(
                f"{variable_of('model_providers')}: {row!r} must be a pattern of model names, '=', and one of the "
                f"providers that {variable_of('provider')} names: {', '.join(providers)}"
            )
        rows.append((pattern, provider))
    return rows
