"""Other people's SSE clients, unmodified, each of which notes what its user gets: [id, type, data] of every message."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

import httpx
from httpx_sse import connect_sse
from playwright.sync_api import Browser, Page
from support.missing import skip_missing
from support.web.npm import NODE, install_packages
from support.web.proxies import FOLDER
from support.web.sse import SseParser

Message = tuple[str, str, str]


class StockClient(Protocol):
    """A client that follows one stream."""

    def messages(self) -> list[Message]:
        """Return what its user has got so far."""
        ...

    def is_done(self) -> bool:
        """Tell whether it has ended of itself, without an error."""
        ...


EVENT_SOURCE = """
([address, types]) => {
  globalThis.messages = [];
  const source = new EventSource(address);
  for (const type of ["message", ...types])
    source.addEventListener(type, (event) => messages.push([event.lastEventId, event.type, event.data]));
  globalThis.isDone = () => source.readyState === EventSource.CLOSED;
}
"""
# What the package's documentation shows: every message is parsed as JSON.
FETCH_EVENT_SOURCE = """
async ([address]) => {
  const { fetchEventSource } = await import("/stock/@microsoft/fetch-event-source/lib/esm/index.js");
  globalThis.messages = [];
  let done = false;
  fetchEventSource(address, {
    onmessage: ({ id, event, data }) => {
      JSON.parse(data);
      messages.push([id, event, data]);
    },
    onerror: (error) => {
      messages.push(["", "error", String(error)]);
      throw error;
    },
  }).then(() => (done = true));
  globalThis.isDone = () => done;
}
"""


@dataclass(slots=True)
class BrowserClient:
    """A client that runs in a page of Chromium."""

    page: Page

    def messages(self) -> list[Message]:
        """Return what its user has got so far."""
        return [cast("Message", tuple(message)) for message in self.page.evaluate("messages")]

    def is_done(self) -> bool:
        """Tell whether it has ended of itself, without an error."""
        return bool(self.page.evaluate("isDone()"))


@contextmanager
def run_in_browser(browser: Browser, site: str, script: str, path: str, types: list[str]) -> Iterator[BrowserClient]:
    """Run one of the scripts above in an empty page of the same origin."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{site}/empty")
        page.evaluate(script, [path, types])
        yield BrowserClient(page)
    finally:
        context.close()


@dataclass(slots=True)
class ProcessClient:
    """A client that is a process; a thread reads its output."""

    process: subprocess.Popen[bytes]
    reads_json: bool
    lines: list[Message] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """Return what its user has got so far."""
        return list(self.lines)

    def is_done(self) -> bool:
        """Tell whether it has ended of itself, without an error."""
        return self.process.poll() == 0

    def read(self) -> None:
        """Read until its end."""
        output = cast("IO[bytes]", self.process.stdout)
        parser = SseParser()
        while piece := output.readline():
            if self.reads_json:
                self.lines.append(tuple(json.loads(piece)))
            else:
                self.lines += [(event.id, event.name, event.data) for event in parser.events(piece)]


@contextmanager
def _run_process(command: list[str], *, reads_json: bool) -> Iterator[ProcessClient]:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
        client = ProcessClient(process, reads_json)
        reading = threading.Thread(target=client.read)
        reading.start()
        try:
            yield client
        finally:
            process.kill()
            reading.join()


def run_eventsource_parser(url: str) -> AbstractContextManager[ProcessClient]:
    """Run npm's eventsource-parser on Node.js' fetch."""
    install_packages(FOLDER)
    return _run_process([str(NODE), str(FOLDER / "eventsource_parser.mjs"), url], reads_json=True)


def run_curl(url: str) -> AbstractContextManager[ProcessClient]:
    """Run curl; what it prints is parsed as the specification says."""
    path = shutil.which("curl")
    if path is None:
        skip_missing("curl is not on PATH; apt-get install curl brings it")
    return _run_process([path, "--no-buffer", "--silent", "--show-error", "--compressed", url], reads_json=False)


@dataclass(slots=True)
class HttpxSseClient:
    """PyPI's httpx-sse, in a thread."""

    url: str
    found: list[Message] = field(default_factory=list)
    done: bool = False

    def messages(self) -> list[Message]:
        """Return what its user has got so far."""
        return list(self.found)

    def is_done(self) -> bool:
        """Tell whether it has ended of itself, without an error."""
        return self.done

    def read(self) -> None:
        """Read until the stream ends."""
        with httpx.Client(timeout=60) as client, connect_sse(client, "GET", self.url) as source:
            for event in source.iter_sse():
                self.found.append((event.id, event.event, event.data))
        self.done = True


@contextmanager
def run_httpx_sse(url: str) -> Iterator[HttpxSseClient]:
    """Run httpx-sse."""
    client = HttpxSseClient(url)
    reading = threading.Thread(target=client.read)
    reading.start()
    try:
        yield client
    finally:
        reading.join(60)
