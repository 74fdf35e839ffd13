"""The files of deploy/ name metrics that exist, show all of them, and say where the documentation explains them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
import yaml
from support.monitoring.expressions import DEPLOY, alerts, dashboard, names_in, panel_expressions
from support.processes.nodes import PROJECT

from chunkspool.metrics.definitions import DEFINITIONS
from chunkspool.metrics.spool_gauges import SpoolGauges


def unasked() -> Any:
    """Fail: nobody is to ask Redis."""
    raise AssertionError("it was asked")


COUNTED = {one.full_name for one in DEFINITIONS}
GAUGES = {one.name for one in SpoolGauges(unasked).describe()} | {"chunkspool_spool_up"}
SUFFIX = re.compile(r"_(bucket|count|sum)$")
PANELS = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def plain_names(*expressions: str) -> set[str]:
    """Return the names of metrics, of a histogram without what its parts are called."""
    return {name if name in COUNTED else SUFFIX.sub("", name) for name in names_in(*expressions)}


def test_the_dashboard_shows_every_metric() -> None:
    """And none that does not exist."""
    assert plain_names(*(expression for _, expression in panel_expressions())) == COUNTED | GAUGES


def test_every_gauge_is_documented() -> None:
    """docs/how-to/run/metrics.md has a row for each."""
    rows = re.findall(r"^\| `(\w+)` \|", (PROJECT / "docs/how-to/run/metrics.md").read_text(), re.MULTILINE)
    assert set(rows) == COUNTED | GAUGES
    assert len(set(rows)) == len(rows)


def test_every_alert_is_about_metrics_that_exist() -> None:
    """Or about whether there is anything to scrape."""
    for alert in alerts():
        names = plain_names(alert.expression)
        assert names <= COUNTED | GAUGES
        assert names or "up{" in alert.expression


def test_jobs_are_called_as_the_scrape_configuration_calls_them() -> None:
    """Where an expression names one."""
    configuration = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in configuration["scrape_configs"]}
    expressions = [one.expression for one in alerts()] + [expression for _, expression in panel_expressions()]
    named = {name for one in expressions for name in re.findall(r'job="([^"]+)"', one)}
    assert named == jobs
    assert all(re.fullmatch("chunkspool-.+", job) for job in jobs)


@pytest.mark.parametrize("alert", alerts(), ids=lambda one: one.name)
def test_every_alert_says_what_to_do(alert: Any) -> None:
    """In plain sentences, with the part of the documentation that says more; that part has a row for it."""
    notes = alert.rule["annotations"]
    assert set(notes) == {"summary", "description", "action", "docs"}
    assert alert.rule["labels"]["severity"] in {"critical", "warning"}
    assert notes["description"].endswith(".")
    assert notes["action"].endswith(".")
    path, _, anchor = notes["docs"].partition("#")
    text = (PROJECT / path).read_text()
    sections = {heading.lower().replace(" ", "-"): body for heading, body in sections_of(text)}
    assert f"`{alert.name}`" in sections[anchor]


def sections_of(text: str) -> list[tuple[str, str]]:
    """Return the headings of a page with what stands below each."""
    parts = re.split(r"^#{2,3} (.+)$", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_every_panel_has_a_place_of_its_own() -> None:
    """Ids are unique, no panel covers another, and each says what it shows."""
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for one, other in combinations([panel["gridPos"] for panel in everything], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert beside or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in everything)
    assert all(panel["description"] and panel["title"] for panel in PANELS)


def test_the_data_source_is_the_viewers_to_choose() -> None:
    """It is a variable of the dashboard; Grafana has the Prometheus of docker-compose.yml for it."""
    (variable,) = dashboard()["templating"]["list"]
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
    assert {panel["datasource"]["uid"] for panel in PANELS} == {"${" + variable["name"] + "}"}
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "chunkspool.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


def test_expressions_stand_in_the_legend() -> None:
    """Each query of a panel with several says which line it is."""
    for panel in PANELS:
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(set(legends)) == len(legends)
