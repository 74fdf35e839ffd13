"""Other people's SSE clients, unmodified, directly and behind other people's proxies: every event, live, and once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import httpx
import pytest
from playwright.sync_api import Browser
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Mount, Route
from support.chats.logs import CHAT
from support.chats.spools import async_spool_for, spool_for
from support.web import stock_clients as stock
from support.web.npm import install_packages
from support.web.proxies import FOLDER, KINDS, run_proxy
from support.web.web_server import Site, serve_app

from chunkspool import Spool
from chunkspool.events import Known
from chunkspool.web import allow_all, create_app

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)

EVENTS = f"/v1/chats/{CHAT}/events?after=0"
TYPES = [kind.model_fields["type"].default for kind in get_args(Known)]
PATIENCE = 45
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "web" / "follow.md"


async def serve_module(request: Request) -> Response:
    """Serve a file of npm's packages as a browser imports it: one of them leaves out the ending."""
    path = install_packages(FOLDER) / request.path_params["path"]
    return FileResponse(path if path.suffix else path.with_suffix(".js"), media_type="text/javascript")


async def serve_empty(_request: Request) -> Response:
    """Serve an empty page, in which clients of the same origin can run."""
    return HTMLResponse("<!doctype html><link rel=icon href=data:,>")


@pytest.fixture
def leaving() -> list[bool]:
    """Give what makes the server end its streams as if it shut down: anything in the list."""
    return []


@pytest.fixture
def site(redis_url: str, leaving: list[bool]) -> Iterator[Site]:
    """Give the routes, with a heartbeat that comes soon, beside pages for the browser's clients."""
    spool = async_spool_for(redis_url, heartbeat=0.5)
    routes = create_app(spool, allow_all, is_shutting_down=lambda: bool(leaving), closes_spool=True)
    pages = [Route("/empty", serve_empty), Route("/stock/{path:path}", serve_module), Mount("/", routes)]
    with serve_app(Starlette(routes=pages, lifespan=routes.router.lifespan_context)) as running:
        yield running
        leaving.append(True)


@pytest.fixture
def worker(redis_url: str) -> Iterator[Spool]:
    """Give a spool that plays the worker."""
    with spool_for(redis_url) as spool:
        yield spool


def start_clients(stack: ExitStack, browser: Browser, address: str) -> dict[str, stock.StockClient]:
    """Start every client; each follows the chat until the answer's end."""
    url = f"{address}{EVENTS}"
    return {
        "EventSource": stack.enter_context(
            stock.run_in_browser(browser, address, stock.EVENT_SOURCE, EVENTS, TYPES),
        ),
        "fetch-event-source": stack.enter_context(
            stock.run_in_browser(browser, address, stock.FETCH_EVENT_SOURCE, EVENTS, TYPES),
        ),
        "eventsource-parser": stack.enter_context(stock.run_eventsource_parser(url)),
        "httpx-sse": stack.enter_context(stock.run_httpx_sse(url)),
        "curl": stack.enter_context(stock.run_curl(url)),
    }


def wait_until_all(clients: Mapping[str, stock.StockClient], reached: Callable[[stock.StockClient], bool]) -> None:
    """Wait until every client has `reached` it; name those that do not."""
    end = time.monotonic() + PATIENCE
    while missing := [name for name, client in clients.items() if not reached(client)]:
        assert time.monotonic() < end, {name: clients[name].messages() for name in missing}
        time.sleep(0.05)


@pytest.mark.parametrize("proxy", KINDS)
def test_every_client_gets_every_event_live_and_once(
    site: Site, worker: Spool, browser: Browser, tmp_path: Path, proxy: str
) -> None:
    """Each word before the next is written, no empty message in a silence, and at the end the log, as it is stored."""
    made = site.ask(CHAT)
    with run_proxy(proxy, site.url, tmp_path) as address, ExitStack() as stack:
        with worker.produce(CHAT, made["generation"]) as out:
            clients = start_clients(stack, browser, address)
            for word in ("one", "two"):
                out.text(word)
                wait_until_all(clients, lambda client, word=word: any(word in data for *_, data in client.messages()))
            with site.open_stream(EVENTS) as other:
                other.read_until(lambda stream: len(stream.reader.comments) >= 2)
        wait_until_all(clients, lambda client: client.is_done())
        wanted = [(entry.cursor, entry.type, entry.raw.decode()) for entry in worker.read(CHAT)]
        assert {name: client.messages() for name, client in clients.items()} == dict.fromkeys(clients, wanted)


@pytest.mark.parametrize("proxy", ["nginx with gzip", "compression"])
def test_these_proxies_do_compress(site: Site, tmp_path: Path, proxy: str) -> None:
    """The routes' JSON is compressed: otherwise the test above would prove nothing about the event stream."""
    with run_proxy(proxy, site.url, tmp_path) as address:
        reply = httpx.get(f"{address}/openapi.json", headers={"accept-encoding": "gzip"})
    assert reply.headers["content-encoding"] == "gzip"


RECIPE = """
async ([code, chat]) => {
  globalThis.shown = "";
  const { fetchEventSource } = await import("/stock/@microsoft/fetch-event-source/lib/esm/index.js");
  const follow = Object.getPrototypeOf(async () => {}).constructor("fetchEventSource", "chat", "token", "show", code);
  globalThis.outcome = null;
  follow(fetchEventSource, chat, "any", (text) => (shown += text)).then(
    () => (outcome = "ended"),
    (error) => (outcome = error.message),
  );
}
"""


def test_the_documented_use_of_fetch_event_source_outlives_the_server(
    site: Site, worker: Spool, browser: Browser, leaving: list[bool]
) -> None:
    """A server that shuts down in mid-answer costs nothing; after the answer it ends, and a 204 ends it for good."""
    (code,) = re.findall(r"^```js\n(class Final.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    code = code.replace("/chat/v1/", "/v1/")
    made = site.ask(CHAT)
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/empty")
    with worker.produce(CHAT, made["generation"]) as out:
        out.text("one ")
        page.evaluate(RECIPE, [code, CHAT])
        page.wait_for_function("shown === 'one '")
        leaving.append(True)
        page.wait_for_function("performance.getEntriesByType('resource').some((one) => one.name.includes('/events'))")
        leaving.clear()
        out.text("two")
        page.wait_for_function("shown === 'one two'")
    page.wait_for_function("outcome === 'ended'")
    page.evaluate(RECIPE, [code.replace("/events`", f"/events?after={worker.status(CHAT).last}`"), CHAT])
    page.wait_for_function("outcome === 'nothing more follows'")
    context.close()
