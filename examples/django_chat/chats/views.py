"""The plain views: ask, follow from any point, stop."""

import json
from functools import partial

from django import forms
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from chunkspool.views import follow
from examples.django_chat.chats import spools
from examples.django_chat.chats.access import find_chat, login_needed
from examples.django_chat.chats.models import Chat
from examples.django_chat.chats.streams import respond


class QuestionForm(forms.Form):
    id = forms.SlugField(max_length=128)
    text = forms.CharField(max_length=100_000)


@require_http_methods(["GET", "POST"])
@login_needed
def chats(request: HttpRequest) -> JsonResponse:
    """List the user's chats, or make one."""
    if request.method == "GET":
        return JsonResponse({"chats": list(request.user.chats.order_by("created").values("id", "created"))})
    return JsonResponse({"id": Chat.objects.create(owner=request.user).pk}, status=201)


@require_POST
@login_needed
def ask(request: HttpRequest, chat_id: str) -> JsonResponse:
    chat = find_chat(request, chat_id)
    question = read_question(request)
    with transaction.atomic():
        chat.keep(question["id"], [{"type": "text", "text": question["text"]}])
        # Not before the question is saved for good. The same id again gets the same answer, so a client may send it
        # again after every error.
        enqueue = partial(spools.get_spool().enqueue, chat.pk, question["text"])
        transaction.on_commit(partial(enqueue, request_id=question["id"], owner=str(request.user.pk)))
    return JsonResponse({"chat": chat.pk, "message": question["id"]}, status=202)


@require_GET
@login_needed
def events(request: HttpRequest, chat_id: str) -> HttpResponseBase:
    chat = find_chat(request, chat_id)
    # A reconnecting EventSource sends the header.
    cursor = request.headers.get("Last-Event-ID", request.GET.get("after", "0"))
    return respond(request, follow(spools.get_spool(), chat.pk, cursor))


@require_POST
@login_needed
def stop(request: HttpRequest, chat_id: str) -> JsonResponse:
    chat = find_chat(request, chat_id)
    stops = spools.get_spool().stop(chat.pk)
    return JsonResponse({"stops": [stopped.generation_id for stopped in stops]}, status=202)


def read_question(request: HttpRequest) -> dict[str, str]:
    """Return the checked body. Raises `ValidationError`."""
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise ValidationError("the body must be JSON") from error
    form = QuestionForm(body if isinstance(body, dict) else {})
    if not form.is_valid():
        raise ValidationError([f"{name}: {error}" for name, errors in form.errors.items() for error in errors])
    return form.cleaned_data
