"""The chat page in a real browser: it streams, survives a reload, follows in a second tab, stops, shows a restart."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import scripted
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect
from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, read_log
from support.chats.spools import async_spool_for, claim_and_die, spool_for
from support.waiting import eventually
from support.web.browser import run_chromium
from support.web.web_server import Site, serve_app

from chunkspool import Spool
from chunkspool.errors import Stopped
from chunkspool.producing.buffer import encode_delta
from chunkspool.store import scripts
from chunkspool.store.client import Store
from chunkspool.web import allow_all, create_app

# One server is enough here: what stands in Redis, and what the routes make of it, is tested on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)

FLOWER = "http://flower.example:5555"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a browser."""
    with run_chromium() as running:
        yield running


@dataclass(slots=True)
class Screen:
    """A tab of a browser, and what it did."""

    context: BrowserContext
    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> Screen:
        """Go there, and remember what the page fetches and complains about."""
        self.page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 - Playwright marks its handlers
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.goto(address)
        return self

    def ask(self, question: str) -> None:
        """Type a question and press Enter."""
        self.page.get_by_label("Your question").fill(question)
        self.page.keyboard.press("Enter")

    def expect_answer(self, text: str) -> None:
        """Fail unless the last answer's text is, or becomes, exactly this."""
        expect(self.page.locator(".answer .text").last).to_have_text(text, use_inner_text=True)

    def expect_link(self, state: str) -> None:
        """Fail unless the stream is, or gets, into this state."""
        expect(self.page.locator("#link")).to_have_attribute("data-state", state)


@dataclass(slots=True)
class Stage:
    """The web app, a worker's hands, and tabs."""

    site: Site
    spool: Spool
    browser: Browser
    leaving: threading.Event
    contexts: list[BrowserContext] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The page of the test's chat."""
        return f"{self.site.url}/#chat={CHAT}"

    def device(self) -> Screen:
        """Open the page on a device of its own."""
        self.contexts.append(self.browser.new_context())
        return self.tab(self.contexts[-1])

    def tab(self, context: BrowserContext) -> Screen:
        """Open the page in one more tab of a browser."""
        return Screen(context, context.new_page()).open(self.address)

    def asked(self) -> str:
        """Wait until something is asked; return the generation's id."""
        eventually(lambda: self.site.client.get(f"/v1/chats/{CHAT}").status_code == 200)
        (generation_id,) = eventually(lambda: self.spool.status(CHAT).active)
        return generation_id


@pytest.fixture
def stage(redis_url: str, browser: Browser) -> Iterator[Stage]:
    """Give an app with the page."""
    leaving = threading.Event()
    spool = async_spool_for(redis_url, flower_url=FLOWER, heartbeat=1)
    app = create_app(spool, allow_all, page=True, leaving=leaving.is_set, closes_spool=True)
    with serve_app(app) as site, spool_for(redis_url) as worker:
        made = Stage(site, worker, browser, leaving)
        yield made
        for context in made.contexts:
            context.close()
        leaving.set()


def test_a_question_is_answered_word_by_word(stage: Stage) -> None:
    """The text is there before the answer is complete; Enter sends, and the facts come at the end."""
    screen = stage.device()
    expect(screen.page.get_by_role("heading", name="An answer that survives")).to_be_visible()
    screen.ask("Why is the sky blue?")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        assert out.request.messages[-1] == {"role": "user", "content": "Why is the sky blue?"}
        said = ""
        for word in ("Be", "cause", " of", " the", " air."):
            out.text(word)
            said += word
            screen.expect_answer(said)
        out.usage(5, 6)
    expect(screen.page.locator(".facts")).to_contain_text("6 tokens")
    expect(screen.page.locator(".question")).to_have_text("Why is the sky blue?")
    expect(screen.page.locator("#seq")).to_have_text(f"seq {len(stage.spool.read(CHAT))}")
    expect(screen.page.locator("#lag")).to_have_text(re.compile(r"^\d+ ms$"))
    screen.ask("And at night?")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        assert [message["role"] for message in out.request.messages] == ["user", "assistant", "user"]
        out.text("Dark.")
    screen.expect_answer("Dark.")


def test_a_reload_resumes_in_the_middle_of_a_word(stage: Stage) -> None:
    """What was there is there again, question included, and the word goes on."""
    screen = stage.device()
    screen.ask("Say a word.")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("light")
        screen.expect_answer("light")
        screen.page.reload()
        screen.expect_answer("light")
        expect(screen.page.locator(".question")).to_have_text("Say a word.")
        out.text("house")
        screen.expect_answer("lighthouse")


def test_a_second_tab_and_another_device_follow_live(stage: Stage) -> None:
    """All show the same text at the same time; the tab of the same browser knows the question, too."""
    screen = stage.device()
    tab = stage.tab(screen.context)
    screen.ask("Say a word.")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("light")
        phone = stage.device()
        for each in (screen, tab, phone):
            each.expect_answer("light")
        out.text("house")
        for each in (screen, tab, phone):
            each.expect_answer("lighthouse")
        expect(tab.page.locator(".question")).to_have_text("Say a word.")
    tab.ask("Another one.")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("tower")
        for each in (screen, tab, phone):
            each.expect_answer("tower")
    expect(screen.page.locator(".question").last).to_have_text("Another one.")


@pytest.mark.parametrize("by", ["button", "Escape"])
def test_stop_stops(stage: Stage, client: Redis, by: str) -> None:
    """The button and the Escape key: the worker is stopped, the page says so, and the next question can be asked."""
    screen = stage.device()
    screen.ask("Count.")
    generation_id = stage.asked()
    with stage.spool.produce(CHAT, generation_id) as out:
        out.text("1 2 3")
        screen.expect_answer("1 2 3")
        button = screen.page.get_by_role("button", name="Stop")
        if by == "button":
            button.click()
        else:
            screen.page.keyboard.press("Escape")
        with pytest.raises(Stopped):
            eventually(lambda: out.text("."), timeout=20)
    assert ending_of(read_log(client), generation_id)["by"] == "user"
    expect(screen.page.locator(".facts")).to_contain_text("stopped")
    expect(button).to_be_hidden()
    expect(screen.page.get_by_role("button", name="Send")).to_be_visible()


def test_a_lost_worker_shows_as_a_restart(stage: Stage, client: Redis) -> None:
    """The text of the dead attempt goes, a note says why, and the second attempt's answer streams."""
    screen = stage.device()
    screen.ask("Say a word.")
    generation_id = stage.asked()
    claim_and_die(client, generation_id, lease=60)
    void = encode_delta(generation_id, "text", "tow")
    Store(client).send(scripts.append(KEYS, generation_id, attempt=1, index=1, lease_ms=50, events=(void,)))
    screen.expect_answer("tow")
    with stage.spool.produce(CHAT, generation_id, wait=10) as out:
        screen.expect_answer("")
        note = screen.page.locator(".note")
        expect(note).to_have_text("Another worker took over: attempt 2.")
        expect(screen.page.get_by_role("status")).to_have_text("Another worker took over: attempt 2.")
        out.text("light")
        screen.expect_answer("light")
        screen.page.reload()
        screen.expect_answer("light")
        expect(note).to_be_visible()


def test_a_killed_worker_shows_as_a_restart(stage: Stage, start_worker: StartWorker) -> None:
    """The same with real workers: one is killed in mid-answer, the next one begins anew, and the page has it whole."""
    soon = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2"}
    first = start_worker("threads", 1, **soon)
    stage.spool.enqueue(CHAT, "Tell me a story.", params=scripted({"text": "word ", "repeat": 60}, pace=0.15))
    screen = stage.device()
    expect(screen.page.locator(".answer .text").last).to_contain_text("word word")
    start_worker("threads", 1, **soon)
    first.kill()
    note = screen.page.locator(".note")
    expect(note).to_have_text("Another worker took over: attempt 2.", timeout=30_000)
    expect(screen.page.locator(".answer .text").last).to_have_text(re.compile(r"^\s*(word\s*){60}$"), timeout=60_000)
    expect(screen.page.get_by_role("status")).to_have_text("The answer is complete.")
    assert stage.spool.snapshot(CHAT).answers[0].text == "word " * 60
    assert screen.complaints == []


def test_a_network_that_goes_and_comes_loses_nothing(stage: Stage) -> None:
    """Offline, the page says so; online again, it has what was said meanwhile, once."""
    screen = stage.device()
    screen.ask("Count.")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("1 ")
        screen.expect_answer("1 ")
        screen.context.set_offline(True)
        screen.expect_link("away")
        out.text("2 ")
        out.data("mark", 1)
        out.text("3 ")
        screen.context.set_offline(False)
        screen.expect_link("live")
        screen.expect_answer("1 2 3 ")
        out.text("4")
        screen.expect_answer("1 2 3 4")


def test_a_question_that_cannot_be_sent_can_be_sent_again(stage: Stage) -> None:
    """It stays where it is, with a button; pressed twice it is still asked once."""
    screen = stage.device()
    screen.expect_link("live")
    screen.context.set_offline(True)
    screen.ask("Anybody there?")
    expect(screen.page.locator(".failed")).to_have_text("The server cannot be reached.")
    screen.context.set_offline(False)
    screen.page.get_by_role("button", name="Send again").click()
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("Yes.")
    screen.expect_answer("Yes.")
    expect(screen.page.locator(".turn")).to_have_count(1)


def test_the_page_can_be_used_without_eyes_and_without_a_mouse(stage: Stage) -> None:
    """Names and roles for a screen reader, which is not interrupted by every word; the focus goes where it should."""
    screen = stage.device()
    question = screen.page.get_by_role("textbox", name="Your question")
    expect(question).to_be_focused()
    screen.page.keyboard.type("One")
    screen.page.keyboard.press("Shift+Enter")
    screen.page.keyboard.type("Two")
    expect(question).to_have_value("One\nTwo")
    screen.page.keyboard.press("Enter")
    answer = screen.page.get_by_role("article", name="Answer")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.reasoning("hm")
        out.text("Three")
        screen.expect_answer("Three")
        expect(answer).to_have_attribute("aria-busy", "true")
        screen.page.keyboard.press("Tab")
        expect(screen.page.get_by_role("button", name="Stop")).to_be_focused()
    expect(answer).to_have_attribute("aria-busy", "false")
    expect(screen.page.get_by_role("status")).to_have_text("The answer is complete.")
    expect(question).to_be_focused()
    screen.page.get_by_text("Reasoning").click()
    expect(screen.page.locator(".reasoning")).to_have_text("hm")
    expect(screen.page.get_by_role("list", name="Conversation").get_by_role("listitem")).to_have_count(1)


def test_nothing_is_fetched_from_elsewhere_and_nothing_can_be(stage: Stage) -> None:
    """All requests go to the app itself; the policy forbids others, inline scripts and frames; text stays text."""
    screen = stage.device()
    screen.ask("<img src=x onerror=alert(1)>")
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("<script>alert(1)</script><b>bold</b>")
    screen.expect_answer("<script>alert(1)</script><b>bold</b>")
    expect(screen.page.locator(".question")).to_have_text("<img src=x onerror=alert(1)>")
    assert {request.url.split("/")[2] for request in screen.requests} == {stage.site.url.split("/")[2]}
    # A chat that does not exist yet is asked for, and a browser calls any 404 an error.
    assert [said for said in screen.complaints if "404" not in said] == []
    for path in ("/", "/page/page.js", "/page/page.css"):
        headers = stage.site.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert stage.site.client.get("/page/..%2fpage.py").status_code == 404
    assert screen.page.get_by_role("link", name="Flower").get_attribute("href") == f"{FLOWER}/tasks"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 390)])
def test_it_fits_light_dark_and_a_phone(stage: Stage, scheme: str, width: int) -> None:
    """The system's wish is followed, and no width has to be scrolled sideways."""
    context = stage.browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 760})  # type: ignore[arg-type]
    stage.contexts.append(context)
    screen = stage.tab(context)
    screen.ask("x" * 300)
    with stage.spool.produce(CHAT, stage.asked()) as out:
        out.text("y" * 300)
    screen.expect_answer("y" * 300)
    channels = screen.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(channels[:3]) > 600) == (scheme == "light")
    assert screen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


EVENT_SOURCE = """
address => {
  globalThis.seen = [];
  globalThis.source = new EventSource(address);
  for (const name of ["generation.queued", "generation.started", "text.delta", "generation.completed"])
    source.addEventListener(name, (event) => seen.push(Number(event.lastEventId)));
}
"""
CONNECTING, CLOSED = 0, 2


def test_the_browsers_own_event_source_reconnects_and_stays_away_at_the_end(stage: Stage) -> None:
    """The connection is cut in mid-answer: it resumes by Last-Event-ID; after the ending a 204 closes it for good."""
    made = stage.site.ask(CHAT)
    page = stage.device().page
    with stage.spool.produce(CHAT, made["generation"]) as out:
        out.text("one")
        page.evaluate(EVENT_SOURCE, f"/v1/chats/{CHAT}/events?after=0")
        eventually(lambda: page.evaluate("seen.length") == 3)
        stage.leaving.set()
        eventually(lambda: page.evaluate("source.readyState") == CONNECTING)
        stage.leaving.clear()
        out.text("two")
        eventually(lambda: page.evaluate("seen.length") == 4)
    eventually(lambda: page.evaluate("source.readyState") == CLOSED, 20)
    assert page.evaluate("seen") == [1, 2, 3, 4, 5]
