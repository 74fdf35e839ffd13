"""Whose a chat is, and what its user has said. What the model has answered is in chunkspool's log."""

import uuid

from django.conf import settings
from django.db import models

from chunkspool.errors import InvalidRequest


def make_id() -> str:
    return str(uuid.uuid4())


class Chat(models.Model):
    """A conversation of one user. Its id is that of chunkspool's chat."""

    id = models.CharField(primary_key=True, max_length=36, default=make_id, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="chats")
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.id

    def keep(self, client_id: str, parts: list[dict[str, object]], *, edited: bool = False) -> None:
        """Save what the user has said, once, however often the client sends it; `edited`: it replaces what was there.

        Raises `ValidationError` or, if something else has this id, `InvalidRequest`.
        """
        Message(chat=self, client_id=client_id, parts=parts).clean_fields()
        kept, _ = self.messages.get_or_create(client_id=client_id, defaults={"parts": parts})
        if kept.parts == parts:
            return
        if not edited:
            raise InvalidRequest(f"the id {client_id} is that of another message of this chat")
        kept.parts = parts
        kept.save()


class Message(models.Model):
    """What the user has said, in the AI SDK's parts. The client makes its id, so that it can send it again."""

    chat = models.ForeignKey(Chat, models.CASCADE, related_name="messages")
    client_id = models.SlugField(max_length=128, db_index=False)
    parts = models.JSONField()
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("chat", "client_id"), name="message_once_per_chat"),)

    def __str__(self) -> str:
        return f"{self.client_id} of {self.chat_id}"
