"""Debian's Prometheus on a free port, with the scrape configuration and the alert rules of deploy/."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from support.missing import skip_missing
from support.monitoring.expressions import DEPLOY, RULES
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import Process

_CONFIGURATION = DEPLOY / "prometheus" / "prometheus.yml"

_SCRAPED_AT = 'min(timestamp(up{job=~"chunkspool-.+"}))'


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus, which scrapes every second."""

    process: Process
    client: httpx.Client

    @classmethod
    def start(cls, folder: Path, targets: Mapping[str, list[str]], token: str) -> Self:
        """Start it; `targets` are the addresses of each job. Skip the test where it is not installed."""
        binary = shutil.which("prometheus")
        if binary is None:
            skip_missing("prometheus is not on PATH; apt-get install prometheus brings it")
        port = free_port()
        command = [
            binary,
            f"--config.file={_configure(folder, targets, token)}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        process = Process.start("prometheus", command, folder)
        client = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=10)
        running = cls(process, client)
        process.wait_until(running._is_ready, 30)
        return running

    @property
    def url(self) -> str:
        """Its address."""
        return str(self.client.base_url)

    def query(self, expression: str) -> dict[str, float]:
        """Return what an expression is now: each value by its labels. An error fails the test."""
        reply = self.client.get("/api/v1/query", params={"query": expression})
        told: dict[str, Any] = reply.json()
        assert told["status"] == "success", f"{expression}: {told.get('error')}"
        assert not told.get("warnings"), told
        return {str(one["metric"]): float(one["value"][1]) for one in told["data"]["result"]}

    def healthy_targets(self) -> list[str]:
        """Return the addresses that it has scraped without an error."""
        found = self.client.get("/api/v1/targets", params={"state": "active"}).json()["data"]["activeTargets"]
        return [one["labels"]["instance"] for one in found if one["health"] == "up"]

    def wait_for_scrapes(self) -> None:
        """Return once everything that was counted until now is known: a scrape of each target has begun after that."""
        (now,) = self.query("vector(time())").values()
        eventually(lambda: min(self.query(_SCRAPED_AT).values()) > now, 20)

    def stop(self) -> None:
        """End it."""
        self.client.close()
        self.process.terminate()

    def _is_ready(self) -> bool:
        try:
            return self.client.get("/-/ready").is_success
        except httpx.TransportError:
            return False


def _configure(folder: Path, targets: Mapping[str, list[str]], token: str) -> Path:
    """Write the configuration of deploy/ with other addresses, another place for the token, and no time to lose."""
    configuration = yaml.safe_load(_CONFIGURATION.read_text())
    assert {job["job_name"] for job in configuration["scrape_configs"]} == set(targets)
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration["rule_files"] = [str(RULES)]
    secret = folder / "token"
    secret.write_text(token)
    for job in configuration["scrape_configs"]:
        assert job.pop("dns_sd_configs")
        job["authorization"]["credentials_file"] = str(secret)
        job["static_configs"] = [{"targets": targets[job["job_name"]]}]
    written = folder / "prometheus.yml"
    written.write_text(yaml.safe_dump(configuration))
    return written
