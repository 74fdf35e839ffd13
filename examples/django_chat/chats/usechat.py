"""The views that a front end with the AI SDK's `useChat` calls, at its own addresses."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET, require_POST

from chunkspool.views import UseChat, UseChatRequest
from examples.django_chat.chats import spools
from examples.django_chat.chats.access import find_chat, login_needed
from examples.django_chat.chats.streams import respond


def get_routes() -> UseChat:
    return UseChat(spools.get_spool())


@transaction.non_atomic_requests  # the answer is the stream of what was enqueued, and that waits for the commit
@require_POST
@login_needed
def send(request: HttpRequest) -> HttpResponseBase:
    turn = UseChatRequest.parse(request.body)
    chat = find_chat(request, turn.id)
    last = turn.sent[-1] if turn.sent else None
    if last is not None and last.role == "user":
        with transaction.atomic(durable=True):
            chat.keep(last.id, last.parts, edited=turn.fresh_message_id is None)
    # What was said is saved for good. If the rest fails, the SDK may send it again: it has the same id.
    stream = get_routes().send(turn, sdk=read_sdk(request), owner=str(request.user.pk))
    return respond(request, stream)


@require_GET
@login_needed
def resume(request: HttpRequest, chat_id: str) -> HttpResponseBase:
    chat = find_chat(request, chat_id)
    return respond(request, get_routes().resume(chat.pk, sdk=read_sdk(request)))


@require_GET
@login_needed
def messages(request: HttpRequest, chat_id: str) -> HttpResponse:
    chat = find_chat(request, chat_id)
    before, limit = request.GET.get("before"), request.GET.get("limit")
    page = get_routes().messages(chat.pk, sdk=read_sdk(request), before=before, limit=limit)
    return HttpResponse(page, "application/json", headers={"Cache-Control": "no-store"})


def read_sdk(request: HttpRequest) -> str:
    """Return the major version of the client's AI SDK, as its `api` address says."""
    return request.GET.get("sdk", "6")
