"""What a model provider is: the seam that own providers implement and the worker drives."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

ENTRY_POINTS = "chunkspool.providers"
"""Entry-point group: name = provider, value = a callable `(Settings) -> Provider`."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of the model's thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool gave back for the call with this `id`: any JSON value. Agents run their tools themselves."""

    id: str
    output: Any


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens paid for, as the provider counts them. A later one replaces an earlier one: it is the sum so far.

    `cached_tokens` are those of the input that cost less, `reasoning_tokens` those of the output that are no answer.
    Both are for metrics only, and 0 where the provider does not tell.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    reasoning_tokens: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Finish:
    """Why the model ended: "stop", "length", "tool_calls", "content_filter", "refusal" or the provider's own word."""

    reason: str


Delta = Text | Reasoning | ToolCall | ToolResult | Usage | Finish


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The model's server has sent something that is no delta, so it is not silent.

    `progress`: it was part of the answer, such as a piece of a tool call. Otherwise it was a keep-alive, and a server
    that sends nothing else is given up after `keepalive_timeout`.
    """

    progress: bool = False


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What the model is asked: `messages` in the chat-completions shape, `params` passed through to the provider.

    `prefix` is the beginning of the answer, said by an earlier attempt that died: the model is to go on from there.
    It is empty unless the setting `recovery` is "continue".
    """

    messages: tuple[Mapping[str, Any], ...]
    model: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""


@runtime_checkable
class Provider(Protocol):
    """A model behind a stream. One object serves all generations of a process, on that process's asyncio loop.

    A provider that can go on from a request's `prefix` has an attribute `can_continue` that is true; the setting
    `recovery` may be "continue" with such a one only.
    """

    def stream(self, request: ModelRequest) -> AsyncGenerator[Delta | SignOfLife, None]:
        """Yield the answer, or what follows the request's `prefix`; raise `ProviderError` when the model fails.

        Where nothing of the answer is complete but the model is at work, yield a `SignOfLife`.

        A model that refuses to go on from a prefix raises `ContinuationRefused` before the first delta, and is then
        asked again without one. Cancelling the task that iterates must close the model's connection.
        """
        ...

    async def aclose(self) -> None:
        """Free what the provider holds."""
        ...
