"""Scrape metrics as Prometheus does, and read them with prometheus_client's own parser."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import httpx
from prometheus_client.parser import text_string_to_metric_families

TOKEN = "metrics-" + "0123456789abcdef" * 2


@dataclass(frozen=True, slots=True)
class Scraped:
    """The samples of one scrape."""

    samples: dict[tuple[str, frozenset[tuple[str, str]]], float]

    def value(self, name: str, **labels: str) -> float:
        """Return one sample; fail if there is none. The name goes without `chunkspool_`."""
        return self.samples[f"chunkspool_{name}", frozenset(labels.items())]

    def total(self, name: str) -> float:
        """Return the sum over all labels."""
        return sum(value for (found, _), value in self.samples.items() if found == f"chunkspool_{name}")


def scrape(url: str, token: str | None = TOKEN) -> Scraped:
    """Return what is served there. Each scrape has a connection of its own, so any of several processes may answer."""
    reply = _client().get(f"{url}/metrics", headers={"authorization": f"Bearer {token}"} if token else {})
    assert reply.status_code == 200, reply.text
    return read(reply.text)


@cache
def _client() -> httpx.Client:
    # One for all: to make a client takes longer than to scrape.
    return httpx.Client(timeout=20, limits=httpx.Limits(max_keepalive_connections=0))


def read(text: str) -> Scraped:
    """Return the samples of a text; fail where one is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return Scraped(found)
