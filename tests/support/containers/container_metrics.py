"""What containers count: their own expositions, read where Prometheus reads them, and what Prometheus made of them."""

from __future__ import annotations

import httpx
from support.containers.compose import Stack

PORTS = {"web": 8000, "worker": 9464}
# In the web app's container, because nobody outside reaches a worker's port. The name has an address of each container.
_SCRAPE = """
import os, socket, sys
from urllib.request import Request, urlopen
head = {"Authorization": "Bearer " + os.environ["CHUNKSPOOL_METRICS_TOKEN"]}
name, port = sys.argv[1:]
for address in sorted({found[4][0] for found in socket.getaddrinfo(name, int(port), socket.AF_INET)}):
    print(urlopen(Request(f"http://{address}:{port}/metrics", headers=head), timeout=10).read().decode())
"""


def scrape(stack: Stack, service: str) -> dict[str, float]:
    """Return what all containers of a service say, added up, by name and labels."""
    found: dict[str, float] = {}
    for line in stack.execute("web", "python", "-c", _SCRAPE, service, str(PORTS[service])).splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = found.get(name, 0) + float(value)
    return found


def ask_prometheus(stack: Stack, query: str) -> dict[str, float]:
    """Return the answer of the Prometheus in its container: by job, where the result has jobs."""
    reply = httpx.get(f"{stack.url('prometheus')}/api/v1/query", params={"query": query}, timeout=10)
    found = reply.raise_for_status().json()["data"]["result"]
    return {one["metric"].get("job", ""): float(one["value"][1]) for one in found}
