"""What a worker's children count is served, or its log says why it is not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery

from chunkspool.demo.ports import free_port
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.metrics.process_files import VARIABLE
from chunkspool.settings import Settings
from chunkspool.worker import equip
from chunkspool.worker.metrics import MetricsStep


@pytest.mark.parametrize(("pool", "has_folder"), [("prefork", False), ("prefork", True), ("threads", False)])
def test_an_observer_of_the_app_s_own_needs_a_folder_on_prefork(
    pool: str,
    has_folder: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without one, the main process would serve nothing but zeros."""
    monkeypatch.delenv(VARIABLE, raising=False)
    if has_folder:
        monkeypatch.setenv(VARIABLE, str(tmp_path))
    with Celery("yours", set_as_current=False) as app:
        settings = Settings.checked({"metrics_port": free_port()})
        equip(app, settings=settings, observer=PrometheusObserver.with_own_registry())
        app.amqp.queues.select(["chunkspool"])
        step = MetricsStep(SimpleNamespace(app=app))
        step.start(SimpleNamespace(app=app, pool_cls=pool))
    assert step._server is not None  # noqa: SLF001 - a worker's serves until its process ends
    step._server.close()  # noqa: SLF001 - as above
    told = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    is_wrong = pool == "prefork" and not has_folder
    assert [f"set {VARIABLE} to an empty folder" in one for one in told] == [True] * is_wrong
