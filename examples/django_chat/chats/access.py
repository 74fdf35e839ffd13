"""Who may do what: users who are logged in, with their own chats."""

from collections.abc import Callable
from functools import wraps

from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase

from examples.django_chat.chats.models import Chat
from examples.django_chat.problems import NotLoggedIn

View = Callable[..., HttpResponseBase]


def login_needed(view: View) -> View:
    """Answer 401 to who is not logged in; Django's `login_required` redirects, which a `fetch` would follow."""

    @wraps(view)
    def wrapped(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponseBase:
        if not request.user.is_authenticated:
            raise NotLoggedIn
        return view(request, *args, **kwargs)

    return wrapped


def find_chat(request: HttpRequest, chat_id: str) -> Chat:
    """Return the user's chat. A 404 does not tell whether it is somebody else's."""
    try:
        return Chat.objects.get(pk=chat_id, owner=request.user)
    except Chat.DoesNotExist:
        raise Http404("you have no such chat") from None
