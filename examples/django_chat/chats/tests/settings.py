"""The project's settings, for its tests."""

from examples.django_chat.settings import *  # noqa: F403 - Django's way to settings of another kind

SECRET_KEY = "made up"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the others are slow on purpose
