"""Makes a provider of the worker out of a function that opens a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from chunkspool.provider import Delta, ModelRequest, SignOfLife


async def _close_nothing() -> None:
    """Close nothing: the app made its model, and knows what it holds."""


@dataclass(frozen=True, slots=True)
class StreamProvider:
    """A `chunkspool.provider.Provider` whose answers are those of `open_stream`."""

    open_stream: Callable[[ModelRequest], AsyncGenerator[Delta | SignOfLife, None]]
    """Begins an answer; it may raise `ProviderError`."""
    close: Callable[[], Awaitable[None]] = _close_nothing
    """Frees what the model holds; awaited when the worker's process ends."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer. Raises `ProviderError`."""
        return self.open_stream(request)

    async def aclose(self) -> None:
        """Free what the model holds."""
        await self.close()
