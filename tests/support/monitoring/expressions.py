"""The expressions of the dashboard and of the alert rules in deploy/."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from support.processes.nodes import PROJECT

DEPLOY = PROJECT / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "chunkspool.json"
RATE_INTERVAL = "1m"
"""What Grafana would put in the place of $__rate_interval."""
_COMPARISON = re.compile(r"^(?P<value>.+) (==|>|<) [\d.]+$", re.DOTALL)
_NAME = re.compile(r"\bchunkspool_\w+")


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert rule."""

    name: str
    expression: str
    rule: dict[str, Any]

    @property
    def value(self) -> str:
        """The expression without its comparison: what is compared."""
        found = _COMPARISON.match(self.expression)
        assert found, self.expression
        return found["value"]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    read: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def panel_expressions() -> Iterator[tuple[str, str]]:
    """Yield the title of each panel with each of its expressions."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", RATE_INTERVAL)


def alerts() -> list[Alert]:
    """Return the alert rules."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [Alert(rule["alert"], rule["expr"], rule) for group in groups for rule in group["rules"]]


def names_in(*expressions: str) -> set[str]:
    """Return the names of our metrics in expressions."""
    return {name for one in expressions for name in _NAME.findall(one)}
