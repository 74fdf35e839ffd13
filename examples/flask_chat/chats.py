"""The blueprint: ask, follow from any point, stop."""

from flask import Blueprint, Response, current_app, request

from chunkspool import Spool
from chunkspool.views import EventStream, follow
from examples.flask_chat.users import authorize, read_text

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
def events(chat_id: str) -> Response:
    authorize(chat_id)
    # A reconnecting EventSource sends the header.
    cursor = request.headers.get("Last-Event-ID", request.args.get("after", "0"))
    return respond_with_stream(follow(get_spool(), chat_id, cursor))


def respond_with_stream(stream: EventStream | None) -> Response:
    """Stream, or say that nothing will come. When the client has hung up, the server closes what `open` returned."""
    if stream is None:
        return Response(status=204)
    return Response(stream.open(get_spool()), headers=dict(stream.headers))


def get_spool() -> Spool:
    spool: Spool = current_app.extensions["chunkspool"]
    return spool
