"""Each finding on the settings of web apps, which are judged as they are written."""

from __future__ import annotations

import pytest

from chunkspool import Settings
from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.finding import Finding, Level
from chunkspool.doctor.web_checks import check_web

GOOD = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def examine(flower: int | Unanswered | None = None, **values: str) -> dict[str, Finding]:
    """Return the findings by their subjects."""
    settings = Settings.checked({"token_secret": GOOD, **values})
    return {one.subject: one for one in check_web(settings.web, flower)}


def test_good_settings_have_no_complaints() -> None:
    """And each has said something."""
    found = examine(cors_origins="https://app.example, http://localhost:3000, https://[2001:db8::1]:8443")
    assert {subject: one.level for subject, one in found.items()} == {
        "token secret": "ok",
        "cors": "ok",
        "flower": "ok",
    }


@pytest.mark.parametrize(
    ("secret", "level"), [("", "warning"), ("a" * 40, "error"), ("changeme" * 4, "error"), (f"{GOOD},{GOOD}", "ok")]
)
def test_the_token_secret(secret: str, level: Level) -> None:
    """None, one that can be guessed, and two good ones; the secret itself is not told."""
    settings = Settings.from_env({"CHUNKSPOOL_TOKEN_SECRET": secret})
    told = next(iter(check_web(settings.web, None)))
    assert (told.subject, told.level) == ("token secret", level)
    assert not secret or secret not in repr(told)


@pytest.mark.parametrize(
    ("origins", "credentials", "level", "advice"),
    [
        ("*", "false", "warning", "name the origins"),
        ("*", "true", "error", "do not start"),
        ("https://app.example/", "true", "error", "slash at the end"),
        ("https://app.example/chat", "false", "error", "without a path"),
        ("app.example", "false", "error", "write https://host"),
        ("https://app.example:port", "false", "error", "write https://host"),
        ("http://app.example", "false", "warning", "https://"),
    ],
)
def test_cors(origins: str, credentials: str, level: Level, advice: str) -> None:
    """What lets in too many, and what lets in nobody."""
    told = examine(cors_origins=origins, cors_credentials=credentials)["cors"]
    assert told.level == level
    assert advice in told.advice


@pytest.mark.parametrize(
    ("answer", "level"),
    [(200, "error"), (401, "ok"), (302, "ok"), (500, "warning"), (Unanswered("connection refused"), "warning")],
)
def test_flower(answer: int | Unanswered, level: Level) -> None:
    """Whoever it lets in can revoke and shut down; its password is not told."""
    told = examine(answer, flower_url="http://user:hidden@flower.example:5555")["flower"]
    assert told.level == level
    assert "hidden" not in repr(told)
