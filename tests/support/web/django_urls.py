"""The URLs of the Django project next to which the web routes are mounted."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def hello(_request: HttpRequest) -> HttpResponse:
    """Return a greeting."""
    return HttpResponse("hello from Django")


urlpatterns = [path("hello", hello)]
