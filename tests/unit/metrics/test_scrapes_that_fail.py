"""A scrape that fails is answered so, and logged once; a scraper that hangs up is no news."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK
from chunkspool.metrics import process_files
from chunkspool.metrics.exposition import Exposition
from chunkspool.metrics.http_server import MetricsServer
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.settings import Settings
from chunkspool.web.routes.metrics import router_of

Scrape = Callable[[Exposition], int]


@pytest.fixture
def exposition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Exposition]:
    """Give one that reads a folder."""
    monkeypatch.setenv(process_files.VARIABLE, str(tmp_path))
    return Exposition(PrometheusObserver.with_own_registry(), Settings.checked({}))


def scrape_worker(exposition: Exposition) -> int:
    """Scrape the worker's server; return the status."""
    server = MetricsServer(exposition, LOOPBACK, 0)
    server.start()
    connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
    connection.request("GET", "/metrics")
    status = connection.getresponse().status
    connection.close()
    server.close()
    return status


def scrape_web(exposition: Exposition) -> int:
    """Scrape the web app's route; return the status."""
    app = FastAPI()
    app.include_router(router_of(exposition, cast("Any", SimpleNamespace(use_running_loop=lambda: None))))

    async def ask() -> int:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://web") as client:
            return (await client.get("/metrics")).status_code

    return asyncio.run(ask())


@pytest.mark.parametrize("scrape", [scrape_worker, scrape_web])
def test_a_failure_is_answered_and_logged_once(
    scrape: Scrape, exposition: Exposition, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The folder has gone, for instance."""
    assert scrape(exposition) == 200
    shutil.rmtree(tmp_path)
    assert [scrape(exposition) for _ in range(3)] == [500] * 3
    (told,) = [one for one in caplog.records if one.levelname == "ERROR"]
    assert told.exc_info


def test_files_that_another_process_keeps_are_a_503(exposition: Exposition, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next scrape may get them."""
    assert exposition.answer().status == 200

    def wait(_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(process_files, "_take", wait)
    assert exposition.answer().status == 503


def test_only_a_scraper_that_hangs_up_is_silent(
    exposition: Exposition, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any other error of the server is logged."""

    def fail(_: object) -> bool:
        raise next(errors)

    errors = iter([ConnectionResetError(), RuntimeError()])
    monkeypatch.setattr(exposition, "admits", fail)
    server = MetricsServer(exposition, LOOPBACK, 0)
    server.start()
    for _ in range(2):
        with socket.create_connection((LOOPBACK, server.port), timeout=5) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(1) == b""
    server.close()
    eventually(lambda: caplog.records)
    (told,) = caplog.records
    assert told.exc_info
    assert told.exc_info[0] is RuntimeError
