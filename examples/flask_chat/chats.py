"""The blueprint: ask, follow from any point, stop."""

from collections.abc import Iterator

from flask import Blueprint, Response, current_app, request

from chunkspool import ChunkspoolError, Spool
from chunkspool.errors import CorruptLog
from examples.flask_chat.problems import document_of
from examples.flask_chat.users import authorize, read_text

# Otherwise nginx, and proxies that compress, would hold the events back.
STREAM_HEADERS = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}

chats = Blueprint("chats", __name__)


@chats.post("/<chat_id>")
def ask(chat_id: str) -> tuple[dict[str, object], int]:
    user = authorize(chat_id)
    made = get_spool().enqueue(chat_id, read_text("prompt"), owner=user)
    return {"generation": made.generation_id, "after": made.after}, 202


@chats.post("/<chat_id>/stop")
def stop(chat_id: str) -> tuple[dict[str, object], int]:
    authorize(chat_id)
    return {"stops": [stopped.generation_id for stopped in get_spool().stop(chat_id)]}, 202


@chats.get("/<chat_id>/events")
def follow(chat_id: str) -> Response:
    authorize(chat_id)
    spool = get_spool()
    # A reconnecting EventSource sends the header.
    cursor = request.headers.get("Last-Event-ID", request.args.get("after", "0"))
    chat = spool.status(chat_id, generation_ids=())
    if not chat.active and cursor.partition(".")[0] == str(chat.last):
        spool.read(chat_id, cursor, 1)  # raises if it is the cursor of a log that was lost
        return Response(status=204)  # nothing will come: an EventSource does not reconnect
    stream = events(spool, chat_id, cursor)
    next(stream)  # up to the first yield: what is wrong is raised before the 200 is sent
    return Response(stream, mimetype="text/event-stream", headers=STREAM_HEADERS)


def events(spool: Spool, chat_id: str, cursor: str) -> Iterator[bytes]:
    """Yield the chat's events. When the client has hung up, the server closes it, and the block frees its reader."""
    with spool.subscribe(chat_id, cursor) as entries:  # raises if the chat or the cursor is wrong
        yield b""
        try:
            while True:
                # The server notices only by writing that a client has gone, so something is written now and then.
                while not entries.wait(spool.settings.web.heartbeat):
                    yield b":\n"
                entry = next(entries, None)
                if entry is None:
                    return
                yield b"id: %b\ndata: %b\n\n" % (entry.cursor.encode(), entry.raw)
        except ChunkspoolError as error:
            # The id of an unreadable event lets the client continue after it.
            skip = b"id: %d\n" % error.seq if isinstance(error, CorruptLog) and error.seq else b""
            yield b"%bevent: problem\ndata: %b\n\n" % (skip, document_of(error))


def get_spool() -> Spool:
    spool: Spool = current_app.extensions["chunkspool"]
    return spool
