"""The chat page in tabs of a browser, with the web app behind it and a spool that plays the worker."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from playwright.sync_api import Browser, BrowserContext, Page, Request, expect
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.web_server import BlackHole, Site

from chunkspool import Spool

HIDE = """
(hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""


@dataclass(slots=True)
class BrowserTab:
    """A tab of a browser, with its requests and errors."""

    context: BrowserContext
    page: Page
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, address: str) -> BrowserTab:
        """Open `address`, and record the page's requests and errors."""
        self.page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 - Playwright marks its handlers
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.goto(address)
        return self

    def ask(self, question: str) -> None:
        """Type a question and press Enter, once the page has heard of the end of the answer before."""
        expect(self.page.locator("#stop")).to_be_hidden()
        self.page.get_by_label("Your question").fill(question)
        self.page.keyboard.press("Enter")

    def set_hidden(self, hidden: bool) -> None:
        """Tell the page that another tab covers it, or no longer does: in this browser every tab counts as visible."""
        self.page.evaluate(HIDE, hidden)

    def expect_answer(self, text: str) -> None:
        """Wait until the text of the last answer is exactly this."""
        expect(self.page.locator(".answer .text").last).to_have_text(text, use_inner_text=True)

    def expect_connection(self, state: str) -> None:
        """Wait until the page shows this state of the stream."""
        expect(self.page.locator("#connection")).to_have_attribute("data-state", state)


@dataclass(slots=True)
class PageEnvironment:
    """The web app, a spool that plays the worker, and browsers."""

    site: Site
    spool: Spool
    browser: Browser
    shutting_down: threading.Event
    hole: BlackHole
    contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The page of the test's chat."""
        return f"{self.site.url}/#chat={CHAT}"

    def open_device(self, *, clock: bool = False) -> BrowserTab:
        """Open the page in a browser with storage of its own, like another device; its `clock` can be moved."""
        self.contexts.append(self.browser.new_context())
        if clock:
            self.contexts[-1].clock.install()
        return self.open_tab(self.contexts[-1])

    def open_tab(self, context: BrowserContext) -> BrowserTab:
        """Open the page in one more tab of a browser."""
        return BrowserTab(context, context.new_page()).open(self.address)

    def wait_for_question(self) -> str:
        """Wait until something is asked; return the generation's id."""
        eventually(lambda: self.site.client.get(f"/v1/chats/{CHAT}").status_code == 200)
        (generation_id,) = eventually(lambda: self.spool.status(CHAT).active)
        return generation_id
