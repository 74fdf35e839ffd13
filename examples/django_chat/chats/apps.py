"""The app's name."""

from django.apps import AppConfig


class ChatsConfig(AppConfig):
    name = "examples.django_chat.chats"
