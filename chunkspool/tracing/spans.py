"""The spans of a generation: their names and attributes. None of them has what a person or a model said."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from chunkspool.provider import Delta, Finish, ModelRequest, SignOfLife, Usage
from chunkspool.results import Generation
from chunkspool.store.queries import StoredTrace
from chunkspool.tracer import Attribute, Span, TraceContext, Tracer, plain_name

_MESSAGING: Final = {"messaging.system": "celery"}
_LONGEST_MODEL: Final = 200
_PROVIDERS: Final = {"openai_api": "openai", "anthropic_api": "anthropic", "litellm_api": "litellm"}
"""How the semantic conventions call those that they know. Of LiteLLM only the model's name tells who it is."""
_NUMBERS: Final = ("max_tokens", "temperature", "top_p")


@dataclass(frozen=True, slots=True)
class TracedEnqueue:
    """A generation that is being enqueued."""

    span: Span

    @property
    def stored(self) -> str:
        """The context to be stored with the generation; "" for none."""
        return _encode(self.span)

    def note(self, made: Generation) -> Generation:
        """Note which generation it is, and return it."""
        self.span.set("chunkspool.generation", made.generation_id)
        self.span.set("messaging.message.id", made.generation_id)
        return made


@contextmanager
def trace_enqueue(tracer: Tracer, tenant: str, chat_id: str, queue: str) -> Iterator[TracedEnqueue]:
    """Trace an enqueue, below the span of the request."""
    if not tracer.is_on:
        with tracer.span("") as nothing:
            yield TracedEnqueue(nothing)
        return
    about = {**_of_chat(tenant, chat_id), **_of_queue(queue, "send")}
    with tracer.span("enqueue generation", "producer", about) as span:
        yield TracedEnqueue(span)


class TracedAttempt:
    """An attempt, from the moment a worker has its message to that in which its ending is written."""

    def __init__(self, tracer: Tracer, span: Span, stored: StoredTrace | None = None) -> None:
        """Begin before the claim. `stored` is what was kept of the generation's trace until then."""
        self._tracer = tracer
        self._span = span
        self._before = stored
        self._ending: Span | None = None
        self._block = ExitStack()

    @property
    def stored(self) -> str:
        """The context to be stored at the claim, for a later attempt to link to; "" for none."""
        return _encode(self._span)

    def claim(self) -> AbstractContextManager[Span]:
        """Trace the claim, which may have to wait until an older attempt's lease has ended.

        It is over as soon as the attempt begins, so it is sent also if the attempt is killed and has no end.
        """
        return self._tracer.span("claim")

    def note_claimed(self, attempt: int) -> None:
        """Note which attempt it is. With the first one, the generation's wait in the queue is over."""
        if attempt == 1 and self._before is not None:
            self._note_wait(self._before)
        self._span.set("chunkspool.attempt", attempt)
        self._span.rename(f"attempt {attempt}")

    def _note_wait(self, before: StoredTrace) -> None:
        enqueue = TraceContext.stored(before.enqueue)
        # One that was released before it had begun counts no attempt: its wait has been noted.
        if enqueue and before.created and not TraceContext.stored(before.attempt):
            self._tracer.note("wait in queue", enqueue, before.created, before.now - before.created)

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Within the block, the answer is made; what comes after it is the writing of its ending."""
        try:
            yield
        finally:
            self._ending = self._block.enter_context(self._tracer.span("end generation"))

    def note_ended(self, state: str) -> None:
        """Note how the generation stands now."""
        for span in (self._span, self._ending):
            if span is not None:
                span.set("chunkspool.state", state)

    def close(self) -> None:
        """End what has begun."""
        self._block.close()


@contextmanager
def trace_attempt(
    tracer: Tracer, tenant: str, chat_id: str, generation_id: str, stored: StoredTrace | None
) -> Iterator[TracedAttempt]:
    """Trace an attempt, below the enqueue; it links to the attempt before it, and to what called it (Celery's own)."""
    if stored is None:
        with tracer.span("") as nothing:
            yield TracedAttempt(tracer, nothing)
        return
    parent, before = TraceContext.stored(stored.enqueue), TraceContext.stored(stored.attempt)
    about = {
        **_of_chat(tenant, chat_id),
        **_of_queue(stored.queue, "process"),
        "chunkspool.generation": generation_id,
        "messaging.message.id": generation_id,
    }
    links = (before, tracer.current())
    with tracer.span("attempt", "consumer", about, parent=parent, links=links) as span:
        attempt = TracedAttempt(tracer, span, stored)
        try:
            yield attempt
        finally:
            attempt.close()


class TracedCall:
    """A call of a model: what comes of it is noted as it comes."""

    def __init__(self, span: Span) -> None:
        """Begin before the request is sent."""
        self._span = span
        self._began = time.monotonic()
        self._has_begun = False

    def note(self, delta: Delta | SignOfLife) -> None:
        """Note what the model has sent: when its first piece came, what it cost, why it ended; never a text."""
        match delta:
            case SignOfLife():
                if delta.model and (model := plain_name(delta.model, longest=_LONGEST_MODEL)):
                    self._span.set("gen_ai.response.model", model)
            case Usage():
                self._span.set("gen_ai.usage.input_tokens", delta.input_tokens)
                self._span.set("gen_ai.usage.output_tokens", delta.output_tokens)
            case Finish():
                # "stop", or a server's own word: who writes a sentence there gets "other".
                self._span.set("gen_ai.response.finish_reasons", [plain_name(delta.reason) or "other"])
            case _ if not self._has_begun:
                self._has_begun = True
                self._span.set("gen_ai.response.time_to_first_chunk", time.monotonic() - self._began)


@contextmanager
def trace_call(
    tracer: Tracer, chat_id: str, request: ModelRequest, *, provider: str, model: str | None
) -> Iterator[TracedCall | None]:
    """Trace a call of a model as the semantic conventions for generative AI name it; None where nothing is traced."""
    if not tracer.is_on:
        yield None
        return
    about: dict[str, Attribute] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(provider, provider),
        "gen_ai.conversation.id": chat_id,
        "gen_ai.request.stream": True,
        **_numbers_of(request.params),
    }
    name = plain_name(model, longest=_LONGEST_MODEL)
    if name:
        about["gen_ai.request.model"] = name
    with tracer.span(f"chat {name}" if name else "chat", "client", about) as span:
        yield TracedCall(span)


def _numbers_of(params: Mapping[str, Any]) -> dict[str, Attribute]:
    found = {name: params.get(name) for name in _NUMBERS}
    is_number = (int, float)
    return {
        f"gen_ai.request.{name}": value
        for name, value in found.items()
        if isinstance(value, is_number) and not isinstance(value, bool)
    }


def _of_chat(tenant: str, chat_id: str) -> dict[str, Attribute]:
    return {"chunkspool.tenant": tenant, "chunkspool.chat": chat_id}


def _of_queue(queue: str, operation: str) -> dict[str, Attribute]:
    named = {"messaging.operation.name": operation, "messaging.operation.type": operation}
    return {**_MESSAGING, "messaging.destination.name": queue, **named}


def _encode(span: Span) -> str:
    return "" if span.context is None else span.context.encode()
