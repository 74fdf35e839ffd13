"""A server that doctor is content with, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.doctor.examined import put_in_order
from support.missing import skip_missing
from support.processes.command import run
from support.servers.redis_server import PrivateServer, ServerMissing, embedded_server
from support.servers.slots import offer_no_slots

Findings = list[dict[str, Any]]
Doctor = Callable[..., tuple[int, Findings]]


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[PrivateServer]:
    """Give a server in good order: workers and the command use it."""
    try:
        with embedded_server(tmp_path / "server", appendonly=True) as server:
            put_in_order(server)
            with server.client() as admin:
                offer_no_slots(admin)
            yield server
    except ServerMissing as missing:
        skip_missing(missing)


@pytest.fixture
def redis_url(redis_server: PrivateServer) -> str:
    """Give its URL. Nobody offers slots there but the workers of the test."""
    return redis_server.url


@pytest.fixture
def doctor(redis_url: str) -> Doctor:
    """Run `chunkspool doctor --json`; give its exit code and its findings."""

    def examine(*arguments: str, url: str = redis_url, **own: str) -> tuple[int, Findings]:
        secret = {"CHUNKSPOOL_TOKEN_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"}
        done = run(url, "doctor", "--json", *arguments, own={**secret, **own})
        assert done.stderr == ""
        found: Findings = json.loads(done.stdout)
        return done.returncode, found

    return examine


def complaints(findings: Findings) -> dict[str, str]:
    """Return the level of each subject that is not ok."""
    return {one["subject"]: one["level"] for one in findings if one["level"] != "ok"}


def told(findings: Findings, subject: str) -> str:
    """Return what was found on a subject, and what to do."""
    return "\n".join(f"{one['found']} | {one['advice']}" for one in findings if one["subject"] == subject)
