"""What follows a change of the database: a chat that is deleted, be it with its user, is erased from the log, too."""

from functools import partial

from django.db import transaction

from examples.django_chat.chats import spools
from examples.django_chat.chats.models import Chat


def erase_log(instance: Chat, **_: object) -> None:
    """Erase the chat once its deletion is final. If Redis is away then, the log is gone after its time to live."""
    transaction.on_commit(partial(spools.get_spool().erase, instance.pk))
