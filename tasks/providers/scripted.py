"""A provider without a model: it runs the script that the request brings. For tests and examples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, ModelRequest, Reasoning, Text, ToolCall, Usage

PauseSeconds = Annotated[float, Field(ge=0, le=3600)]


class ScriptedFailure(BaseModel):
    """A failure of the provider."""

    code: str
    message: str
    retryable: bool = False


class ScriptedToolCall(BaseModel):
    """A tool call."""

    id: str
    name: str
    arguments: str = "{}"


class ScriptStep(BaseModel):
    """One step of a script: exactly one thing to yield or do, `repeat` times."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    reasoning: str | None = None
    tool_call: ScriptedToolCall | None = None
    usage: tuple[int, int] | None = None
    finish: str | None = None
    wait: PauseSeconds | None = None
    silent: bool = False
    fail: ScriptedFailure | None = None
    crash: bool = False
    repeat: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _check_that_it_is_one(self) -> Self:
        if len(self.model_fields_set - {"repeat"}) != 1:
            raise ValueError("a step holds exactly one thing to yield or do")
        return self

    def delta(self) -> Delta | None:
        """Return what the step yields, if anything."""
        if self.text is not None:
            return Text(self.text)
        if self.reasoning is not None:
            return Reasoning(self.reasoning)
        if self.tool_call is not None:
            return ToolCall(self.tool_call.id, self.tool_call.name, self.tool_call.arguments)
        if self.usage is not None:
            return Usage(*self.usage)
        return None if self.finish is None else Finish(self.finish)

    async def act(self) -> None:
        """Do what the step does besides yielding: wait, stay silent forever, fail or crash."""
        if self.wait is not None:
            await asyncio.sleep(self.wait)
        if self.silent:
            await asyncio.Event().wait()
        if self.fail is not None:
            raise ProviderError(self.fail.code, self.fail.message, retryable=self.fail.retryable)
        if self.crash:
            raise RuntimeError("the script says: crash")


class ScriptParams(BaseModel):
    """What `params` may hold. Without a script the last message is echoed word by word. `pace`: seconds per delta."""

    script: list[ScriptStep] | None = None
    pace: PauseSeconds = 0.0


class ScriptedProvider:
    """Deterministic: the same request yields the same deltas."""

    can_continue = True

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Run the script, without the text that the prefix has already. Raises `ProviderError`."""
        if request.model not in {None, "scripted"}:
            raise ProviderError("model_not_found", f"There is no model {request.model!r}.", retryable=False)
        params = _parse_params(request.params)
        covered = len(request.prefix)
        for step in _echo_steps(request) if params.script is None else params.script:
            for _ in range(step.repeat):
                await asyncio.sleep(params.pace)
                await step.act()
                delta = step.delta()
                # The prefix is consumed first: what it covers of this text was written by an earlier attempt.
                if isinstance(delta, Text):
                    delta, covered = Text(delta.text[covered:]), max(0, covered - len(delta.text))
                if delta is not None:
                    yield delta

    async def aclose(self) -> None:
        """Nothing to do: it holds nothing."""


def _parse_params(params: Mapping[str, Any]) -> ScriptParams:
    try:
        return ScriptParams.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProviderError(
            "invalid_request", f"The script is invalid at {where}: {first['msg']}", retryable=False
        ) from None


def _echo_steps(request: ModelRequest) -> list[ScriptStep]:
    content = request.messages[-1].get("content")
    words = f"You said: {content}".split(" ")
    return [ScriptStep(text=word if i == 0 else f" {word}") for i, word in enumerate(words)]
