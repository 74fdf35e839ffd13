"""A table of the Django project."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """What a task has to say."""

    text = models.TextField()

    def __str__(self) -> str:
        """Return the text."""
        return self.text
