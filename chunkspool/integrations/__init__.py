"""Generations by other people's frameworks: LangChain, LangGraph, Pydantic AI and LiteLLM. Each needs its extra.

Nothing of a framework is loaded before one of these names is used. Where it is not installed, that raises
`chunkspool.errors.ExtraMissing`, which names the extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chunkspool.integrations.relay import arelay, relay
from chunkspool.integrations.stream_provider import StreamProvider

if TYPE_CHECKING:
    from chunkspool.integrations.langchain import astream_langchain, langchain_provider, stream_langchain
    from chunkspool.integrations.litellm import astream_litellm, litellm_provider, stream_litellm
    from chunkspool.integrations.pydantic_ai import astream_pydantic_ai, pydantic_ai_provider, stream_pydantic_ai
    from chunkspool.integrations.pydantic_ai_messages import pydantic_ai_history

__all__ = [
    "StreamProvider",
    "arelay",
    "astream_langchain",
    "astream_litellm",
    "astream_pydantic_ai",
    "langchain_provider",
    "litellm_provider",
    "pydantic_ai_history",
    "pydantic_ai_provider",
    "relay",
    "stream_langchain",
    "stream_litellm",
    "stream_pydantic_ai",
]

_FRAMEWORKS = ("langchain", "litellm", "pydantic_ai")


def __getattr__(name: str) -> Any:
    """Load the module of the framework that `name` belongs to. Raises `ExtraMissing`."""
    framework = next((one for one in _FRAMEWORKS if name in __all__ and one in name), None)
    if framework is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{framework}"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return list(__all__)
