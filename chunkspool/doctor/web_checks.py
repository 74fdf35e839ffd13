"""Judges what web apps are set to: who may get in, and from where. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.finding import Finding
from chunkspool.errors import without_password
from chunkspool.settings import MIN_SECRET_BYTES, WebSettings, split_secrets

GROUP: Final = "web"
FEWEST_CHARACTERS: Final = 10
"""Different ones: 32 bytes of hexadecimal digits that are random have 14 of the 16."""
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TO_A_LOGIN: Final = range(300, 400)
_SECRET: Final = "CHUNKSPOOL_TOKEN_SECRET=$(openssl rand -hex 32)"  # noqa: S105 - how to make one

_make = partial(Finding, GROUP)


def check_web(settings: WebSettings, flower: int | Unanswered | None) -> Iterator[Finding]:
    """Yield what there is to say. `flower`: the status that a stranger gets; None if no setting says where it is."""
    yield _check_secret(settings)
    yield _check_origins(settings)
    yield _check_flower(settings, flower)


def _check_secret(settings: WebSettings) -> Finding:
    if settings.token_secret is None:
        advice = f"set {_SECRET}, the same for all web apps; an app with an authorize of its own needs none"
        return _make("warning", "token secret", "none: chunkspool serve does not start", advice)
    secrets = split_secrets(settings.token_secret.get_secret_value())
    weak = [one for one in secrets if len(set(one)) < FEWEST_CHARACTERS]
    if weak:
        advice = f"set {_SECRET}: whoever guesses it reads and erases every chat"
        return _make("error", "token secret", f"{len(weak)} of {len(secrets)} can be guessed: few characters", advice)
    shortest = min(len(one.encode()) for one in secrets)
    return _make("ok", "token secret", f"{len(secrets)}, the shortest has {shortest} bytes ({MIN_SECRET_BYTES} needed)")


def _check_origins(settings: WebSettings) -> Finding:
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if "*" in origins:
        if settings.cors_credentials:
            advice = "name the origins in CHUNKSPOOL_CORS_ORIGINS: with cookies, web apps do not start with *"
            return _make("error", "cors", "* with cookies", advice)
        advice = "name the origins in CHUNKSPOOL_CORS_ORIGINS: now a page of any site can use a token that it finds"
        return _make("warning", "cors", "pages of every origin", advice)
    malformed = [origin for origin in origins if not _is_origin(origin)]
    if malformed:
        advice = "write https://host or https://host:port, without a path or a slash at the end: it never matches"
        return _make("error", "cors", f"no origin: {', '.join(malformed)}", advice)
    plain = [origin for origin in origins if origin.startswith("http://") and urlsplit(origin).hostname not in _LOCAL]
    if plain:
        advice = "serve these pages by https://: who is on the network can change them, and read what they may read"
        return _make("warning", "cors", f"without TLS: {', '.join(plain)}", advice)
    return _make("ok", "cors", ", ".join(origins) or "pages of the same origin only")


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return False
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return bool(parts.scheme in {"http", "https"} and host and text == f"{parts.scheme}://{host}{port}")


def _check_flower(settings: WebSettings, flower: int | Unanswered | None) -> Finding:
    if flower is None or settings.flower_url is None:
        return _make("ok", "flower", "not looked for: CHUNKSPOOL_FLOWER_URL is not set")
    where = without_password(settings.flower_url)
    if isinstance(flower, Unanswered):
        advice = "start it, or take CHUNKSPOOL_FLOWER_URL away: the page's link leads nowhere"
        return _make("warning", "flower", f"{where} does not answer: {flower.why}", advice)
    if flower == HTTPStatus.OK:
        advice = (
            "set FLOWER_BASIC_AUTH=user:password, and keep its port on the machine: whoever reaches it can revoke "
            "generations and shut workers down"
        )
        return _make("error", "flower", f"{where} lets everybody in", advice)
    if flower in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or flower in _TO_A_LOGIN:
        return _make("ok", "flower", f"{where} asks who is there")
    advice = "look at its log, and whether CHUNKSPOOL_FLOWER_URL leads to Flower"
    return _make("warning", "flower", f"{where} answers {flower}", advice)
