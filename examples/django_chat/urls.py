"""Where everything is."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from examples.django_chat.chats import usechat, views

urlpatterns = [
    path("accounts/login/", LoginView.as_view(), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("chats", views.chats),
    path("chats/<slug:chat_id>", views.ask),
    path("chats/<slug:chat_id>/events", views.events),
    path("chats/<slug:chat_id>/stop", views.stop),
    # The AI SDK's own addresses.
    path("api/chat", usechat.send),
    path("api/chat/<slug:chat_id>/stream", usechat.resume),
    path("api/chat/<slug:chat_id>/stop", views.stop),
    path("api/chat/<slug:chat_id>/messages", usechat.messages),
]
