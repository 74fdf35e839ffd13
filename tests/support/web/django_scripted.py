"""The Django example with one difference: users may script the model, as the scenarios of the SDK's clients do."""

from chunkspool.views import UseChat
from examples.django_chat.asgi import application as asgi
from examples.django_chat.chats import spools, usechat
from examples.django_chat.wsgi import application as wsgi

__all__ = ["asgi", "wsgi"]

usechat.get_routes = lambda: UseChat(spools.get_spool(), admit=lambda asked: asked)
