"""The blueprint for an AI SDK front end: its `useChat` sends, resumes and stops here, and loads the chat's messages."""

from flask import Blueprint, Response, request

from chunkspool.views import UseChat, UseChatRequest
from examples.flask_chat.chats import get_spool, respond_with_stream
from examples.flask_chat.users import authorize

usechat = Blueprint("usechat", __name__)


@usechat.post("")
def send() -> Response:
    body = UseChatRequest.parse(request.get_data())
    user = authorize(body.id)
    return respond_with_stream(UseChat(get_spool()).send(body, sdk=sdk(), owner=user))


@usechat.get("/<chat_id>/stream")
def resume(chat_id: str) -> Response:
    authorize(chat_id)
    return respond_with_stream(UseChat(get_spool()).resume(chat_id, sdk=sdk()))


@usechat.post("/<chat_id>/stop")
def stop(chat_id: str) -> tuple[dict[str, object], int]:
    authorize(chat_id)
    return {"stops": [stopped.generation_id for stopped in get_spool().stop(chat_id)]}, 202


@usechat.get("/<chat_id>/messages")
def messages(chat_id: str) -> Response:
    authorize(chat_id)
    page = request.args.get("before"), request.args.get("limit")
    found = UseChat(get_spool()).messages(chat_id, sdk=sdk(), before=page[0], limit=page[1])
    return Response(found, mimetype="application/json", headers={"cache-control": "no-store"})


def sdk() -> str:
    """Return the major version of the client's AI SDK: its transport's `api` ends with `?sdk=7`."""
    return request.args.get("sdk", "6")
