"""The app's name, and what it listens to."""

from django.apps import AppConfig
from django.db.models.signals import post_delete


class ChatsConfig(AppConfig):
    name = "examples.django_chat.chats"

    def ready(self) -> None:
        """Connect the signals."""
        from examples.django_chat.chats.signals import erase_log  # noqa: PLC0415 - models are not there before

        post_delete.connect(erase_log, sender="chats.Chat")
