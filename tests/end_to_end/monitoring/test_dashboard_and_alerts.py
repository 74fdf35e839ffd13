"""Every panel of the dashboard and every alert, evaluated by a real Prometheus that has scraped a real run."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support.missing import skip_missing
from support.monitoring.expressions import DEPLOY, RULES, alerts, panel_expressions
from support.monitoring.prometheus import Prometheus
from support.monitoring.real_run import Users, run_deployment
from support.servers.redis_server import embedded_server
from support.waiting import eventually

COUNTED = {
    'generations_ended_total{state="completed"}': 7,
    'generations_ended_total{state="failed",code="quota_exhausted"}': 1,
    'generations_ended_total{state="stopped"}': 1,
    'generation_seconds_count{state="completed"}': 7,
    "generations_queued_total": 3,
    'limits_hit_total{limit="request_bytes"}': 1,
    'replays_total{result="hit"}': 1,
    'replays_total{result="miss"}': 1,
    'attempts_total{number="2"}': 1,
    "redeliveries_total": 1,
    "stop_seconds_count": 1,
    'tokens_total{kind="output"}': 4 * 90,
    "chats": 9,
    'redis_memory_bytes{tenant="default"}': 1000,
    "redis_max_memory_bytes": 200 * 1024**2,
    "spool_up": 1,
}
"""What users do, at least so often."""


def promtool(*arguments: str, folder: Path) -> str:
    """Run promtool; return what it says. It fails the test by its exit code."""
    binary = shutil.which("promtool")
    if binary is None:
        skip_missing("promtool is not on PATH; apt-get install prometheus brings it")
    command = [binary, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - as above
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def scraped(tmp_path: Path) -> Iterator[Prometheus]:
    """Provide a Prometheus that has scraped a deployment while people used it, and still does."""
    if shutil.which("prometheus") is None:
        skip_missing("prometheus is not on PATH; apt-get install prometheus brings it")
    with (
        embedded_server(tmp_path / "redis", maxmemory="200mb") as redis,
        run_deployment(redis.url, tmp_path) as deployment,
    ):
        prometheus = Prometheus.start(tmp_path, deployment.targets, deployment.token)
        users = Users(deployment)
        try:
            # Each counter is seen once before it moves: what was never 0 never grew.
            eventually(lambda: len(prometheus.healthy_targets()) == 3, 20)
            prometheus.wait_for_scrapes()
            users.live()
            prometheus.wait_for_scrapes()
            users.lose_a_worker()
            prometheus.wait_for_scrapes()
            yield prometheus
        finally:
            users.close()
            prometheus.stop()


def has_data(values: dict[str, float]) -> bool:
    """Tell whether there is a value that is a number."""
    return any(not math.isnan(value) for value in values.values())


# Of one run, so in one test: tests of a file may be given to several processes, and each would need a run of its own.
def test_every_panel_and_every_alert_has_data(scraped: Prometheus) -> None:
    """Each expression is valid and brings a number, and Prometheus evaluates the rules; what users did is counted."""
    assert [(title, one) for title, one in panel_expressions() if not has_data(scraped.query(one))] == []
    # Without its comparison: what is there would be compared, so the alert would be raised.
    assert [one.name for one in alerts() if not has_data(scraped.query(one.value))] == []
    groups = scraped.client.get("/api/v1/rules").json()["data"]["groups"]
    rules = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert rules == dict.fromkeys((one.name for one in alerts()), "ok")
    for series, least in COUNTED.items():
        # Also by a worker that was killed since. What is read from Redis is up to ten seconds old.
        expression = f"sum(max_over_time(chunkspool_{series}[5m]))"
        eventually(partial(reaches, scraped, expression, least), 20)


def reaches(scraped: Prometheus, expression: str, least: float) -> bool:
    """Tell whether an expression has at least this value."""
    return max(scraped.query(expression).values(), default=0.0) >= least


def test_the_rules_are_valid_and_alerts_are_raised(tmp_path: Path) -> None:
    """Promtool accepts the files, and its own tests of the rules pass: with these numbers, these alerts."""
    assert "SUCCESS" in promtool("check", "rules", str(RULES), folder=tmp_path)
    configuration = DEPLOY / "prometheus" / "prometheus.yml"
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(configuration), folder=tmp_path)
    tests = Path(__file__).with_name("alert_rules_test.yml").read_text().replace("RULES", str(RULES))
    (tmp_path / "tests.yml").write_text(tests)
    assert "SUCCESS" in promtool("test", "rules", "tests.yml", folder=tmp_path)
