"""An event stream as Django's response: on a thread under WSGI, on the event loop under ASGI."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from chunkspool.views import EventStream
from examples.django_chat.chats import spools


def respond(request: HttpRequest, stream: EventStream | None) -> HttpResponseBase:
    """Return the stream, or a 204 if nothing will come: an EventSource then does not reconnect."""
    if stream is None:
        return HttpResponse(status=204)
    events = read_async(stream) if isinstance(request, ASGIRequest) else read(stream)
    return StreamingHttpResponse(events, headers=stream.headers)


def read(stream: EventStream) -> Iterator[bytes]:
    close_old_connections()  # a stream needs no database, and may last for minutes
    yield from stream.open(spools.get_spool())


async def read_async(stream: EventStream) -> AsyncIterator[bytes]:
    await sync_to_async(close_old_connections)()
    async with aclosing(stream.open_async(spools.get_async_spool())) as events:
        async for event in events:
            yield event
