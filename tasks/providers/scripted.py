"""A provider that says what it is told to: for tests and examples, without a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chunkspool.errors import ProviderError
from chunkspool.provider import Delta, Finish, ModelRequest, Reasoning, Text, ToolCall, Usage

Seconds = Annotated[float, Field(ge=0, le=3600)]


class Fail(BaseModel):
    """An error of the provider."""

    code: str
    message: str
    retryable: bool = False


class Call(BaseModel):
    """A tool call."""

    id: str
    name: str
    arguments: str = "{}"


class Step(BaseModel):
    """One step of a script: exactly one thing to say or do, `repeat` times."""

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    reasoning: str | None = None
    tool_call: Call | None = None
    usage: tuple[int, int] | None = None
    finish: str | None = None
    wait: Seconds | None = None
    silent: bool = False
    fail: Fail | None = None
    crash: bool = False
    repeat: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set - {"repeat"}) != 1:
            raise ValueError("a step says or does exactly one thing")
        return self

    def delta(self) -> Delta | None:
        """Return what the step says, if it says anything."""
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
        """Do what the step does besides saying something: wait, stay silent for ever, fail or crash."""
        if self.wait is not None:
            await asyncio.sleep(self.wait)
        if self.silent:
            await asyncio.Event().wait()
        if self.fail is not None:
            raise ProviderError(self.fail.code, self.fail.message, retryable=self.fail.retryable)
        if self.crash:
            raise RuntimeError("the script says: crash")


class Params(BaseModel):
    """What `params` may hold. Without a script, the last message is echoed word by word. `pace`: seconds per delta."""

    script: list[Step] | None = None
    pace: Seconds = 0.0


class ScriptedProvider:
    """Deterministic: the same request says the same."""

    can_continue = True

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Delta, None]:
        """Run the script, leaving out as much of its text as the prefix has. Raises `ProviderError`."""
        if request.model not in {None, "scripted"}:
            raise ProviderError("model_not_found", f"There is no model {request.model!r}.", retryable=False)
        params = _checked(request.params)
        known = len(request.prefix)
        for step in _echo(request) if params.script is None else params.script:
            for _ in range(step.repeat):
                await asyncio.sleep(params.pace)
                await step.act()
                delta = step.delta()
                if isinstance(delta, Text):
                    delta, known = Text(delta.text[known:]), max(0, known - len(delta.text))
                if delta is not None:
                    yield delta

    async def aclose(self) -> None:
        """Nothing is held."""


def _checked(params: Mapping[str, Any]) -> Params:
    try:
        return Params.model_validate(params)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ProviderError(
            "invalid_request", f"The script is wrong at {where}: {first['msg']}", retryable=False
        ) from None


def _echo(request: ModelRequest) -> list[Step]:
    said = request.messages[-1].get("content")
    words = f"You said: {said}".split(" ")
    return [Step(text=word if i == 0 else f" {word}") for i, word in enumerate(words)]
