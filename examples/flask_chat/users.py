"""Who is asking, by Flask's session, and which chats are theirs: those whose ids begin with their name and a dot."""

from typing import Any

from flask import Blueprint, abort, request, session

users = Blueprint("users", __name__)


@users.post("/login")
def login() -> dict[str, str]:
    """Believe whoever it is: put your own log-in here."""
    name = read_text("name")
    if not name.isidentifier():  # so that no name has a dot
        abort(422, "a name is letters, digits and underscores")
    session.clear()
    session["user"] = name
    return {"user": name}


@users.post("/logout")
def logout() -> dict[str, str]:
    session.clear()
    return {}


def authorize(chat_id: str) -> str:
    """Return who is asking. Ends the request with a 401 or a 403 if it is nobody, or the chat is not theirs."""
    user: str | None = session.get("user")
    if user is None:
        abort(401, "log in first")
    if not chat_id.startswith(f"{user}."):  # an app with a database asks that
        abort(403, "this chat is somebody else's")
    return user


def read_text(name: str) -> str:
    """Return a text of the request's JSON. Ends the request with a 422 if there is none."""
    body: Any = request.get_json()
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str):
        abort(422, f"{name!r} must be a string")
    return value
