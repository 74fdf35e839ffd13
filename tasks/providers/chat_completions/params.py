"""The params of a request for a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chunkspool.tasks.providers.failures import Code, failure

_RESERVED = frozenset({"messages", "model", "stream"})


def build_params(params: Mapping[str, Any], reserved: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Return the request's further fields. A param of None removes a field: some servers reject stream_options.

    Raises `ProviderError` for one that is ours to set; `reserved` are more of those.
    """
    taken = sorted((_RESERVED | reserved) & params.keys())
    if taken:
        raise failure(Code.INVALID_REQUEST, f"params may not set {', '.join(taken)}")
    wanted = {"stream_options": {"include_usage": True}, **params}
    return {name: value for name, value in wanted.items() if value is not None}
