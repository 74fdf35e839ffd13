"""A model that says what the test tells it to: a provider, for the worker in the test's process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from chunkspool.provider import Delta, ModelRequest
from chunkspool.tasks.providers.scripted import ScriptedProvider, ScriptStep


class ScriptedModel:
    """Answers each request with the next script; without one it says "You said: …". `requests` is what it was asked."""

    can_continue = True

    def __init__(self) -> None:
        """Begin without scripts."""
        self.requests: list[ModelRequest] = []
        self._scripts: deque[list[ScriptStep]] = deque()
        self._lock = threading.Lock()
        self._provider = ScriptedProvider()

    def will_say(self, *steps: str | Mapping[str, Any]) -> None:
        """Add the script of one attempt: pieces of text, and steps as the provider `scripted` takes them.

        Raises pydantic's `ValidationError` for a step that is none.
        """
        script = [ScriptStep(text=step) if isinstance(step, str) else ScriptStep.model_validate(step) for step in steps]
        with self._lock:
            self._scripts.append(script)

    def will_fail(
        self, code: str = "server_error", message: str = "The test says so.", *, retryable: bool = False
    ) -> None:
        """Add a script that is one failure of the provider."""
        self.will_say({"fail": {"code": code, "message": message, "retryable": retryable}})

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Run the next script, or the one that the request brings in its `params`. Raises `ProviderError`."""
        with self._lock:
            self.requests.append(request)
            script = None if "script" in request.params or not self._scripts else self._scripts.popleft()
        # An app's own params and names of models are its real provider's business.
        params = {"script": script} if script is not None else _script_in(request.params)
        async with aclosing(self._provider.stream(replace(request, model=None, params=params))) as deltas:
            async for delta in deltas:
                yield delta

    async def aclose(self) -> None:
        """Nothing to do: it holds nothing."""


def _script_in(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: params[name] for name in ("script", "pace") if name in params}
