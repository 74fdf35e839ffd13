"""The chat page with a long chat: it begins with the newest answers, and shows earlier ones when it is asked to."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from playwright.sync_api import Route, expect
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.chat_page import BrowserTab, PageEnvironment

from chunkspool import Producer

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)

PAGE = 30
EARLIER = "Show earlier answers"


def write_answers(env: PageEnvironment, first: int, last: int) -> None:
    """Write answers to their ends, the n-th with the text `answer n`."""
    for n in range(first, last + 1):
        generation_id = env.spool.enqueue(CHAT, "x", on_active="allow").generation_id
        with env.spool.produce(CHAT, generation_id) as out:
            out.text(f"answer {n}")


def expect_answers(tab: BrowserTab, first: int, last: int) -> None:
    """Wait until the page shows exactly these, in order."""
    expect(tab.page.locator(".answer .text")).to_have_text([f"answer {n}" for n in range(first, last + 1)])


def say(tab: BrowserTab, env: PageEnvironment, out: Producer, text: str) -> None:
    """Write a text, and wait until the stream has brought it to the page."""
    last = env.spool.status(CHAT).last
    out.text(text)
    eventually(lambda: env.spool.status(CHAT).last > last)
    expect(tab.page.locator("#seq")).to_have_text(f"seq {env.spool.status(CHAT).last}")


def test_it_begins_with_the_newest(env: PageEnvironment) -> None:
    """Of seventy answers it loads thirty, shows the others page by page without a jump, and goes on live."""
    write_answers(env, 1, 70)
    tab = env.open_device()
    expect_answers(tab, 41, 70)
    snapshots = [request.url for request in tab.requests if request.url.split("?")[0].endswith(f"/chats/{CHAT}")]
    assert snapshots
    assert all(f"limit={PAGE}" in url for url in snapshots)
    button = tab.page.get_by_role("button", name=EARLIER)
    place = tab.page.get_by_text("answer 41", exact=True)
    button.scroll_into_view_if_needed()
    before = place.bounding_box()
    button.dispatch_event("click")  # a click of Playwright's scrolls
    expect_answers(tab, 11, 70)
    after = place.bounding_box()
    assert before is not None
    assert after is not None
    assert abs(before["y"] - after["y"]) < 2
    write_answers(env, 71, 71)
    expect_answers(tab, 11, 71)
    button.focus()
    button.press("Enter")
    expect_answers(tab, 1, 71)
    expect(button).to_be_hidden()
    assert tab.page.evaluate("document.activeElement.innerText").strip() == "answer 1"
    assert tab.errors == []


def test_a_short_chat_has_no_button(env: PageEnvironment) -> None:
    """What is shown is all there is."""
    write_answers(env, 1, 3)
    tab = env.open_device()
    expect_answers(tab, 1, 3)
    expect(tab.page.locator("#earlier")).to_be_hidden()


def test_an_earlier_answer_that_is_still_written(env: PageEnvironment) -> None:
    """It can be stopped although it is not shown, is whole when it is shown, and goes on live."""
    with ExitStack() as block:
        generation_id = env.spool.enqueue(CHAT, "x").generation_id
        out = block.enter_context(env.spool.produce(CHAT, generation_id))
        out.text("answer")
        write_answers(env, 2, 40)
        tab = env.open_device()
        expect_answers(tab, 11, 40)
        expect(tab.page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
        # Of an answer that is not shown, nothing is shown: half of it would be wrong.
        say(tab, env, out, " 1")
        expect_answers(tab, 11, 40)

        def delay(route: Route) -> None:
            # What is written while the page of earlier answers is under way is in it, or it comes by the stream.
            reply = route.fetch()
            say(tab, env, out, " and")
            route.fulfill(response=reply)

        tab.page.route("**/*before=*", delay)
        tab.page.get_by_role("button", name=EARLIER).click()
        first = tab.page.locator(".answer .text").first
        expect(first).to_have_text("answer 1 and")
        out.text(" more")
        expect(first).to_have_text("answer 1 and more")
    expect(tab.page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
    assert tab.errors == []


def test_an_earlier_answer_that_ends_unseen(env: PageEnvironment) -> None:
    """Nothing is active any more, and the next question can be asked."""
    with ExitStack() as block:
        generation_id = env.spool.enqueue(CHAT, "x").generation_id
        block.enter_context(env.spool.produce(CHAT, generation_id))
        write_answers(env, 2, 40)
        tab = env.open_device()
        stop = tab.page.get_by_role("button", name="Stop", exact=True)
        expect(stop).to_be_visible()
    expect(stop).to_be_hidden()
    tab.ask("Why?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Because.")
    tab.expect_answer("Because.")


def test_earlier_answers_that_cannot_be_loaded(env: PageEnvironment) -> None:
    """The page says so, and the button can be pressed again."""
    write_answers(env, 1, 35)
    tab = env.open_device()
    expect_answers(tab, 6, 35)
    tab.page.route("**/*before=*", lambda route: route.abort())
    button = tab.page.get_by_role("button", name=EARLIER)
    button.click()
    expect(tab.page.locator("#announcer")).to_have_text("The server cannot be reached.")
    tab.page.unroute("**/*before=*")
    button.click()
    expect_answers(tab, 1, 35)


def test_an_erased_chat_has_no_earlier_answers(env: PageEnvironment) -> None:
    """Whatever was shown of it, and a page that is under way is dropped."""
    write_answers(env, 1, 65)
    tab = env.open_device()
    expect_answers(tab, 36, 65)

    def erase_first(route: Route) -> None:
        reply = route.fetch()
        env.spool.erase(CHAT)
        expect(tab.page.locator(".turn")).to_have_count(0)
        route.fulfill(response=reply)

    tab.page.route("**/*before=*", erase_first)
    button = tab.page.get_by_role("button", name=EARLIER)
    button.click()
    expect(button).to_be_hidden()
    expect(tab.page.locator(".turn")).to_have_count(0)
    tab.ask("Again?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Yes.")
    expect(tab.page.locator(".answer .text")).to_have_text(["Yes."])
