"""A task of the Django project that uses its database."""

from __future__ import annotations

from celery import shared_task
from support.django_shop.models import Note


@shared_task(name="shop.remember")
def remember(text: str) -> int:
    """Write a row; return how many there are of this text."""
    Note.objects.create(text=text)
    return Note.objects.filter(text=text).count()
