"""The chat page takes questions while an answer is written: they wait for it, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Route, expect
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.chat_page import BrowserTab, PageEnvironment

from chunkspool.errors import Stopped

# One server is enough here: the tests of the routes run on both.
pytestmark = pytest.mark.parametrize("redis_server", ["redis-server"], indirect=True)


def send(tab: BrowserTab, question: str) -> None:
    """Type a question and press Enter, whatever is active."""
    tab.page.get_by_label("Your question").fill(question)
    tab.page.keyboard.press("Enter")


def wait_for_active(env: PageEnvironment, count: int) -> tuple[str, ...]:
    """Wait until so many generations are active; return their ids."""
    eventually(lambda: env.site.client.get(f"/v1/chats/{CHAT}").status_code == 200)
    eventually(lambda: len(env.spool.status(CHAT).active) == count)
    return env.spool.status(CHAT).active


def test_questions_wait_for_the_answer_before_them(env: PageEnvironment) -> None:
    """Each is shown at once, on every device, in order; one can be cancelled; the others are answered in turn."""
    tab, second = env.open_device(), env.open_device()
    send(tab, "One?")
    (first,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, first) as out:
        out.text("1")
        tab.expect_answer("1")
        send(tab, "Two?")
        send(tab, "Three?")
        expect(tab.page.get_by_label("Your question")).to_have_value("")
        _, _, third = wait_for_active(env, 3)
        facts = ["the model is thinking", "waiting for the answer before it", "waiting for the 2 answers before it"]
        for each in (tab, second):
            expect(each.page.locator(".question")).to_have_text(["One?", "Two?", "Three?"])
            expect(each.page.locator(".facts")).to_have_text(["", *facts[1:]])
            expect(each.page.get_by_role("button", name="Cancel this question")).to_have_count(2)
        second.page.get_by_role("button", name="Cancel this question").first.press("Enter")
        for each in (tab, second):
            expect(each.page.locator(".facts").nth(1)).to_have_text("cancelled before it began")
            expect(each.page.locator(".facts").nth(2)).to_have_text(facts[1])
        # What is written goes on.
        out.text("!")
        tab.expect_connection("live")
    with env.spool.produce(CHAT, third, wait=5) as out:
        out.text("3")
    for each in (tab, second):
        expect(each.page.locator(".answer .text")).to_have_text(["1!", "", "3"])
        expect(each.page.get_by_role("button", name="Stop", exact=True)).to_be_hidden()
        assert each.errors == []


def test_stop_stops_all(env: PageEnvironment) -> None:
    """What is written and what waits; what was being typed stays."""
    tab = env.open_device()
    send(tab, "One?")
    (first,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, first) as out:
        out.text("1")
        send(tab, "Two?")
        wait_for_active(env, 2)
        tab.page.get_by_label("Your question").fill("Half a ques")
        tab.page.keyboard.press("Escape")
        with pytest.raises(Stopped):
            eventually(lambda: out.text("."), timeout=20)
    expect(tab.page.locator(".facts")).to_have_text(["stopped", "cancelled before it began"])
    expect(tab.page.get_by_label("Your question")).to_have_value("Half a ques")
    assert env.spool.status(CHAT).active == ()


def test_quick_questions_keep_their_order(env: PageEnvironment) -> None:
    """The next one is sent when the one before has arrived, or could not be sent."""
    tab = env.open_device()
    words = ["One?", "Two?", "Three?", "Four?"]
    for word in words:
        send(tab, word)
    wait_for_active(env, 4)
    asked = [answer.asked[0].content for answer in env.spool.snapshot(CHAT).answers]
    assert asked == words
    expect(tab.page.locator(".question")).to_have_text(words)
    tab.page.reload()
    expect(tab.page.locator(".question")).to_have_text(words)


def test_another_version_waits_too(env: PageEnvironment) -> None:
    """Asked for while the answer below is written, it follows that one, and can be cancelled."""
    tab = env.open_device()
    tab.ask("One?")
    (first,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, first) as out:
        out.text("1")
    tab.ask("Two?")
    (second,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, second) as out:
        out.text("2")
        tab.expect_answer("2")
        tab.page.get_by_role("button", name="Regenerate the answer").first.click()
        expect(tab.page.locator(".facts")).to_have_text(["waiting for the answer before it"])
        _, third = wait_for_active(env, 2)
    with env.spool.produce(CHAT, third, wait=5) as out:
        out.text("1, again")
    expect(tab.page.locator(".answer .text")).to_have_text(["1, again"])
    tab.page.get_by_role("button", name="Previous version").click()
    expect(tab.page.locator(".answer .text")).to_have_text(["1", "2"])


def test_a_chat_that_takes_no_more_says_so(env: PageEnvironment) -> None:
    """In words for people; the question stays and can be sent again."""
    env.spool.set_policy(active=1)
    tab = env.open_device()
    tab.ask("One?")
    (first,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, first) as out:
        out.text("1")
        send(tab, "Two?")
        told = "Too many questions wait in this chat. Wait for an answer, or cancel a question."
        expect(tab.page.locator(".failed")).to_have_text(told)
        expect(tab.page.locator(".question")).to_have_text(["One?", "Two?"])
    tab.page.get_by_role("button", name="Send again").click()
    wait_for_active(env, 1)
    expect(tab.page.locator(".failed")).to_have_count(0)
    expect(tab.page.locator(".question")).to_have_text(["One?", "Two?"])


@pytest.mark.parametrize("comes", [True, False], ids=["late", "never"])
def test_a_question_is_shown_once_though_its_reply_is_late(env: PageEnvironment, *, comes: bool) -> None:
    """The log shows that it was asked: it stands there once, without a failure, and is answered."""
    tab = env.open_device()
    tab.ask("One?")
    (first,) = wait_for_active(env, 1)
    with env.spool.produce(CHAT, first) as out:
        out.text("1")
    tab.expect_answer("1")

    def delay(route: Route) -> None:
        reply = route.fetch()
        (made,) = wait_for_active(env, 1)
        with env.spool.produce(CHAT, made) as out:
            out.text("2")
        expect(tab.page.locator(".question")).to_have_text(["One?", "Two?"])
        tab.expect_answer("2")
        if comes:
            route.fulfill(response=reply)
        else:
            route.abort()

    tab.page.route("**/generations", delay)
    ended = "requestfinished" if comes else "requestfailed"
    with tab.page.expect_event(ended, lambda request: request.url.endswith("/generations")):
        tab.ask("Two?")
    expect(tab.page.get_by_role("status")).to_have_text("The question was sent.")
    expect(tab.page.locator(".question")).to_have_text(["One?", "Two?"])
    expect(tab.page.locator(".failed")).to_have_count(0)
    tab.page.unroute("**/generations")
    tab.ask("Three?")
    expect(tab.page.locator(".question")).to_have_text(["One?", "Two?", "Three?"])
