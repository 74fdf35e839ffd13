"""Streams a LangChain runnable (a chat model, a chain) or a compiled LangGraph graph. Extra: `langchain`."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping
from contextlib import aclosing, closing
from functools import partial
from typing import Any

from chunkspool.integrations.extras import needs_extra
from chunkspool.integrations.failures import translate
from chunkspool.integrations.stream_provider import StreamProvider
from chunkspool.provider import Delta, ModelRequest, SignOfLife

with needs_extra("langchain", "langchain_core"):
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.runnables import Runnable
    from langchain_core.runnables.config import merge_configs

    from chunkspool.integrations.langchain_messages import PROGRESS, MessageReader

Prepare = Callable[[ModelRequest], Mapping[str, Any]]


def stream_langchain(
    runnable: Runnable[Any, Any],
    input: Any,  # noqa: A002 - LangChain's own name
    *,
    nodes: Collection[str] | None = None,
    **options: Any,
) -> Generator[Delta | SignOfLife, None, None]:
    """Yield the answer of a runnable or a graph. Close it to end the model's stream.

    `input` and `options` (`config`, a graph's `context`, `subgraphs` …) go to its `stream`. Of a graph, the models of
    `nodes` speak to the reader, by default all of them. Raises `ProviderError`; `InvalidInput` for a runnable that
    yields neither messages nor texts.
    """
    reader, gate = MessageReader(nodes), _Gate()
    failed: Exception | None = None
    read = _read_graph if _is_graph(runnable) else MessageReader.feed
    try:
        answer: Any = runnable.stream(input, **_arguments(runnable, gate, options))
        with closing(answer) as chunks, gate:
            for chunk in chunks:
                yield from read(reader, chunk)
    except Exception as error:  # noqa: BLE001 - a framework passes on whatever its parts raise
        failed = translate(error)
    # Outside the block above: an SDK's error, which may quote the prompt, is not the context of what is raised.
    yield from _end(reader, failed)


async def astream_langchain(
    runnable: Runnable[Any, Any],
    input: Any,  # noqa: A002 - LangChain's own name
    *,
    nodes: Collection[str] | None = None,
    **options: Any,
) -> AsyncGenerator[Delta | SignOfLife, None]:
    """Do what `stream_langchain` does, by `astream`. Cancelling the task that iterates ends the model's stream."""
    reader, gate = MessageReader(nodes), _Gate()
    failed: Exception | None = None
    read = _read_graph if _is_graph(runnable) else MessageReader.feed
    try:
        answer: Any = runnable.astream(input, **_arguments(runnable, gate, options))
        async with aclosing(answer) as chunks:
            with gate:
                async for chunk in chunks:
                    for delta in read(reader, chunk):
                        yield delta
    except Exception as error:  # noqa: BLE001 - as above
        failed = translate(error)
    for delta in _end(reader, failed):
        yield delta


def langchain_provider(
    runnable: Runnable[Any, Any], prepare: Prepare | None = None, *, nodes: Collection[str] | None = None
) -> StreamProvider:
    """Return a provider of the worker that answers by a runnable or a graph.

    `prepare` turns a request into the arguments of its `astream`: `input`, and whatever else it takes. Without it a
    graph gets `{"messages": […]}`, another runnable the messages; the request's model and params are not used.
    """
    return StreamProvider(partial(_stream_request, runnable, prepare or _prepare_for(runnable), nodes))


def _stream_request(
    runnable: Runnable[Any, Any], prepare: Prepare, nodes: Collection[str] | None, request: ModelRequest
) -> AsyncGenerator[Delta | SignOfLife, None]:
    return astream_langchain(runnable, nodes=nodes, **prepare(request))


def _prepare_for(runnable: Runnable[Any, Any]) -> Prepare:
    def prepare(request: ModelRequest) -> Mapping[str, Any]:
        messages = [dict(message) for message in request.messages]
        return {"input": {"messages": messages} if _is_graph(runnable) else messages}

    return prepare


def _end(reader: MessageReader, failed: Exception | None) -> Iterator[Delta]:
    """Yield what is complete only now. Raises `failed`."""
    if failed is None:
        yield from reader.end()
        return
    yield from reader.take_usage()
    raise failed


def _read_graph(reader: MessageReader, item: Any) -> Iterator[Delta | SignOfLife]:
    """Yield what a graph's item says: `(mode, data)`, and with `subgraphs` the namespace before it."""
    *_, mode, data = item
    if mode == "messages":
        message, metadata = data
        yield from reader.feed(message, metadata.get("langgraph_node"))
        return
    reader.interrupted = reader.interrupted or "__interrupt__" in data
    yield PROGRESS


def _is_graph(runnable: Runnable[Any, Any]) -> bool:
    # Whoever has a graph has loaded LangGraph. It need not be installed for a chat model.
    protocol = sys.modules.get("langgraph.pregel.protocol")
    return protocol is not None and isinstance(runnable, protocol.PregelProtocol)


def _arguments(runnable: Runnable[Any, Any], gate: _Gate, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `stream`: the caller's, the gate, and of a graph what it is to yield."""
    config = merge_configs(options.get("config"), {"callbacks": [gate]})
    modes = {"stream_mode": ["messages", "updates"]} if _is_graph(runnable) else {}
    return {**options, "config": config, **modes}


class _Left(Exception):
    """Nobody reads this answer any more."""


class _Gate(BaseCallbackHandler):
    """Ends models that run in threads, which nobody can cancel: at their next token, after the stream was left.

    A graph that is left waits for its threads. Without this, a stop would wait for the whole answer.
    """

    raise_error = True
    run_inline = True

    def __init__(self) -> None:
        """Let everything pass for now."""
        self._is_left = False

    def __enter__(self) -> None:
        """Let everything pass while the block runs."""

    def __exit__(self, *_: object) -> None:
        """Let nothing pass any more."""
        self._is_left = True

    def on_llm_new_token(self, *_: Any, **__: Any) -> None:
        """End a model that goes on."""
        self._check()

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Keep a further model from starting."""
        self._check()

    def on_tool_start(self, *_: Any, **__: Any) -> None:
        """Keep a further tool from starting."""
        self._check()

    def _check(self) -> None:
        if self._is_left:
            raise _Left
